"""Whatever single thing is damaged around the data, decode.py alone restores everything.

The archive is made by the command line; the decoder runs in this process.
"""

from __future__ import annotations

import importlib.util
import json
import random
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import handmade
from kit.cli import invoke
from kit.faults import checksums

from archiver.names import portable_paths

if TYPE_CHECKING:
    from collections.abc import Iterator

DECODER = Path(__file__).parents[2] / "archiver" / "carried" / "decode.py"
EDITION_2 = json.loads((Path(__file__).parent / "vectors" / "edition-2.json").read_text())


def weights(count: int) -> bytes:
    """A safetensors file of BF16 as weights are."""
    rng = random.Random(count)
    data = b"".join(rng.randbytes(1) + bytes([rng.choice((0x3C, 0xBC))]) for _ in range(count))
    header = json.dumps(
        {"w": {"dtype": "BF16", "shape": [count], "data_offsets": [0, 2 * count]}}
    ).encode()
    return len(header).to_bytes(8, "little") + header + data


FILES = {
    "config.json": b'{"model_type": "tiny"}\n',
    "empty": b"",
    "model.safetensors": weights(30_000),
    "notes/read me.txt": b"some words " * 40,
}


@pytest.fixture(scope="module")
def decoder():
    spec = importlib.util.spec_from_file_location("decoder_of_fallbacks", DECODER)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def decode(decoder, monkeypatch):
    """Runs the decoder; returns its exit code."""

    def run(root: Path, *arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["decode.py", "-C", str(root), *map(str, arguments)])
        return decoder.main()

    return run


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    """An archive of one snapshot."""
    folder = tmp_path_factory.mktemp("made")
    for path, data in FILES.items():
        (folder / "in" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "in" / path).write_bytes(data)
    root = folder / "archive"
    assert invoke("init", "-q", "-C", root) == 0
    words = ("import", "-q", folder / "in", "--as", "Org/Model", "-C", root, "--min-free", "0B")
    assert invoke(*words) == 0
    return root


@pytest.fixture
def archive(original, tmp_path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "archive"))


def tree(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


def only(root: Path, pattern: str) -> Path:
    (path,) = root.glob(pattern)
    return path


def restored(decode, root: Path, out: Path, *options: object) -> dict[str, bytes]:
    assert decode(root, "restore", "Org/Model", out, *options) == 0
    files = tree(out)
    shutil.rmtree(out)
    return files


def signposts(pack: bytes) -> Iterator[tuple[int, int]]:
    """Begin and end of each skippable frame of a pack."""
    index = int.from_bytes(pack[-8:], "little")
    rows = json.loads(pack[index + 8 : -16])["objects"]
    starts = [0, *(row[1] for row in rows), index, len(pack) - 16]
    for start in starts:
        yield start, start + 8 + int.from_bytes(pack[start + 4 : start + 8], "little")


def overwrite(path: Path, data: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(data)


PACKS = "packs/*/*.pack"
DOCUMENTS = {
    "manifest": "manifests/*/*/*.json.zst",
    "seal": "snapshots/*/*/*.json",
    "archive.json": "archive.json",
}


def test_it_is_restored_as_it_is(archive, decode, tmp_path, capsys):
    assert restored(decode, archive, tmp_path / "out") == FILES
    assert "damage" not in capsys.readouterr().err


def test_each_single_frame_of_a_pack_can_be_lost(archive, decode, tmp_path):
    """Head, each header, index, trailer: zeroed."""
    path = only(archive, PACKS)
    pack = path.read_bytes()
    frames = list(signposts(pack))
    assert len(frames) > 6
    for start, end in frames:
        overwrite(path, pack[:start] + bytes(end - start) + pack[end:])
        assert restored(decode, archive, tmp_path / "out") == FILES, start


@pytest.mark.parametrize("program", [True, False])
def test_checksums_can_be_wrong(archive, decode, decoder, tmp_path, monkeypatch, program):
    """An object's own digest proves it."""
    if not program:
        monkeypatch.setattr(decoder.shutil, "which", lambda _name: None)
        monkeypatch.setattr(decoder, "optional", lambda _name: None)
    path = only(archive, PACKS)
    pack = bytearray(path.read_bytes())
    places = checksums(path)
    assert len(places) > 6
    for begin, _ in places:
        pack[begin] ^= 1
    overwrite(path, bytes(pack))
    assert restored(decode, archive, tmp_path / "out") == FILES


def test_single_bits_of_the_signposts_can_flip(archive, decode, tmp_path):
    path = only(archive, PACKS)
    pack = path.read_bytes()
    rng = random.Random(1)
    places = [at for start, end in signposts(pack) for at in range(start, end)]
    trailer = range(len(pack) - 16, len(pack))
    for at in [*rng.sample(places, 84), *trailer]:
        changed = bytearray(pack)
        changed[at] ^= 1 << rng.randrange(8)
        overwrite(path, bytes(changed))
        assert restored(decode, archive, tmp_path / "out") == FILES, at


@pytest.mark.parametrize("blake3", [True, False])
def test_a_bit_that_makes_another_format_number_costs_nothing(
    archive, decode, decoder, monkeypatch, tmp_path, blake3
):
    """A pack is of another format only if it is what its name says."""
    if not blake3:
        monkeypatch.setattr(decoder, "BLAKE3", None)
    path = only(archive, PACKS)
    changed = bytearray(path.read_bytes())
    changed[changed.index(b'"format":1') + 9] ^= 8
    overwrite(path, bytes(changed))
    assert restored(decode, archive, tmp_path / "out") == FILES
    assert decode(archive, "verify") == 20


@pytest.mark.parametrize("kind", DOCUMENTS)
@pytest.mark.parametrize("blake3", [True, False])
def test_single_bits_of_a_document_can_flip(archive, decode, decoder, tmp_path, kind, blake3):
    if not blake3:
        decoder.BLAKE3, package = None, decoder.BLAKE3
    path = only(archive, DOCUMENTS[kind])
    data = path.read_bytes()
    rng = random.Random(kind)
    for _ in range(17):
        changed = bytearray(data)
        changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        overwrite(path, bytes(changed))
        assert restored(decode, archive, tmp_path / "out") == FILES
    if not blake3:
        decoder.BLAKE3 = package


@pytest.mark.parametrize("kind", DOCUMENTS)
@pytest.mark.parametrize("how", ["lost", "empty", "cut", "zeros", "elsewhere"])
def test_a_document_can_be_lost(archive, decode, tmp_path, kind, how):
    path = only(archive, DOCUMENTS[kind])
    data = path.read_bytes()
    if how == "lost":
        path.unlink()
    elif how == "elsewhere":
        (path.parent / "a folder").mkdir()
        path.rename(path.parent / "a folder" / path.name)
    else:
        cut = len(data) // 2
        overwrite(path, {"empty": b"", "cut": data[:cut], "zeros": bytes(len(data))}[how])
    assert restored(decode, archive, tmp_path / "out") == FILES


def test_an_index_that_lies_about_an_object(archive, decode, tmp_path):
    """Each number of its entries: the digest decides, and the header knows better."""
    path = only(archive, PACKS)
    pack = path.read_bytes()
    at = int.from_bytes(pack[-8:], "little")
    index = json.loads(pack[at + 8 : -16])
    for row in index["objects"]:
        for element, change in ((1, 1), (2, -1), (2, 5), (3, 1), (4, 1), (6, 1)):
            if row[element] is None:
                continue
            before, row[element] = row[element], row[element] + change
            payload = handmade.canonical(index)
            row[element] = before
            frames = handmade.skippable(2, payload)
            overwrite(path, pack[:at] + frames + pack[-16:])
            assert restored(decode, archive, tmp_path / "out") == FILES, (row, element)


def test_packs_may_lie_in_another_folder(archive, decode, tmp_path):
    path = only(archive, PACKS)
    for place in ("", path.name[:2], f"packs/{path.name[:2]}"):
        other = tmp_path / "other"
        (other / place).mkdir(parents=True)
        shutil.copy(path, other / place)
        hidden = path.rename(tmp_path / "hidden")
        assert decode(archive, "restore", "Org/Model", tmp_path / "no") == 20
        assert (tree(tmp_path / "no")) == {"empty": b""}
        shutil.rmtree(tmp_path / "no")
        options = ("--packs", tmp_path / "nowhere", "--packs", other)
        assert restored(decode, archive, tmp_path / "out", *options) == FILES
        hidden.rename(path)
        shutil.rmtree(other)


@pytest.fixture
def protected(archive) -> Path:
    assert invoke("parity", "add", "-q", "-C", archive) == 0
    return archive


def test_parity_gives_a_damaged_stretch_of_a_pack(protected, decode, tmp_path, capsys):
    path = only(protected, PACKS)
    pack = path.read_bytes()
    for start, length in ((0, 4096), (20_000, 4097), (len(pack) - 4097, 4097)):
        overwrite(path, pack[:start] + bytes(length) + pack[start + length :])
        assert restored(decode, protected, tmp_path / "out") == FILES
    overwrite(path, pack[: len(pack) - 4096])
    assert restored(decode, protected, tmp_path / "out") == FILES
    overwrite(path, pack[:1000] + bytes(40_000) + pack[41_000:])
    capsys.readouterr()
    assert decode(protected, "restore", "Org/Model", tmp_path / "out") == 20
    assert "more is lost than parity can give" in capsys.readouterr().err


@pytest.mark.parametrize("first", ["whole", "damaged", "cut"])
def test_parity_gives_seal_and_manifest_without_packs(protected, decode, tmp_path, first):
    """Both are gone, the seal's folder too; and the sidecars have lost one of their headers."""
    for path in (only(protected, DOCUMENTS["seal"]), only(protected, DOCUMENTS["manifest"])):
        path.unlink()
    for sidecar in protected.glob("parity/*/*.par"):
        data = sidecar.read_bytes()
        changed = {"whole": data, "damaged": data[:50] + b"?" + data[51:], "cut": data[:-40]}
        overwrite(sidecar, changed[first])
    assert restored(decode, protected, tmp_path / "out") == FILES


def test_the_vector_of_parity(decoder, tmp_path):
    vector = EDITION_2["parity"]
    data, sidecar = bytes.fromhex(vector["file"]), bytes.fromhex(vector["sidecar"])
    (tmp_path / "file").write_bytes(data)
    (tmp_path / "file.par").write_bytes(sidecar)
    for lost in ([0, 1], [2, 3], [0, 3], [1], []):
        damaged = bytearray(data)
        for number in lost:
            damaged[2 * number] ^= 0xFF
        (tmp_path / "file").write_bytes(damaged)
        with decoder.Sidecar(tmp_path / "file.par").rebuild(tmp_path / "file") as file:
            assert file.read() == data
    (tmp_path / "file").unlink()
    with pytest.raises(decoder.Damage):
        decoder.Sidecar(tmp_path / "file.par").rebuild(tmp_path / "file")


def test_the_vectors_of_other_names(decoder):
    for vector in EDITION_2["names"]:
        assert decoder.other_name(vector["path"]) == vector["name"]
    paths = ["A/x", "B", "a/x", "a:b", "a%3Ab", "b", "b/c", "c", "C.", "c%2E"]
    assert decoder.other_names(paths) == portable_paths(paths)
    assert decoder.numbered("a/b.tar.gz", 2) == "a/b.tar~2.gz"
    assert decoder.numbered("README", 3) == "README~3"
    assert decoder.numbered("x/.hidden", 2) == "x/.hidden~2"


PARTS = st.text("aA.~2 :%ß\u0130é\u0301", min_size=1, max_size=4)


@given(st.lists(st.lists(PARTS, min_size=1, max_size=2).map("/".join), unique=True, max_size=8))
def test_other_names_are_those_of_the_product(paths):
    spec = importlib.util.spec_from_file_location("decoder_of_names", DECODER)
    module = sys.modules.get(spec.name)
    if module is None:
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    try:
        module.check_paths(paths)
    except module.Damage:
        return
    assert module.other_names(paths) == portable_paths(paths)


def test_the_snapshot_of_the_vectors(decode, tmp_path):
    import base64

    snapshot = EDITION_2["snapshot"]
    root = tmp_path / "archive"
    pack = base64.b64decode(snapshot["pack"])
    handmade.write_pack(root, pack)
    seal = snapshot["seal"].encode()
    (root / "snapshots").mkdir()
    name = f"{handmade.REVISION}.{handmade.digest(seal)}.json"
    (root / "snapshots" / name).write_bytes(seal)
    files = {path: bytes.fromhex(data) for path, data in snapshot["files"].items()}
    assert restored(decode, root, tmp_path / "out") == files  # no manifest file, no archive.json


# ---- which seal


def sighted(root: Path, revision: str, time: str, **changes: object) -> Path:
    event = {
        "after": [],
        "detail": {"name": "main", "upstream": "https://hub.example", **changes},
        "event": "sighted",
        "format": 1,
        "kind": "event",
        "repository": "Org/Model",
        "revision": revision,
        "time": time,
        "tool": "handmade 1",
    }
    data = handmade.canonical(event)
    stamp = time.replace("-", "").replace(":", "").lower()
    path = root / "journal" / "2026" / "01" / f"{stamp}.{handmade.digest(data)}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def test_the_revision_that_upstream_last_had_goes_first(decode, tmp_path, capsys):
    root, config = tmp_path / "archive", b"{}"
    handmade.write_identity(root)
    pack = handmade.pack([(config, 0, handmade.object_frames(config, 0))], full=True)
    handmade.write_pack(root, pack)
    old, new, part = "a" * 40, "b" * 64, "c" * 40
    for revision, changes in (
        (old, {"sealed": "2026-01-05T00:00:00Z"}),
        (new, {"sealed": "2026-01-01T00:00:00Z"}),
        (part, {"selection": {"include": ["*.json"], "exclude": []}}),
    ):
        files = [handmade.described("config.json", [config])]
        manifest = handmade.manifest(files, revision=revision)
        handmade.write_snapshot(root, manifest, [pack], committed="", **changes)

    def given() -> str:
        capsys.readouterr()
        assert restored(decode, root, tmp_path / "out") == {"config.json": config}
        return capsys.readouterr().err.partition("Org/Model@")[2].partition(",")[0]

    assert given() == old  # the last one sealed
    sighted(root, new, "2026-01-02T00:00:00Z")
    assert given() == new
    sighted(root, old, "2026-01-03T00:00:00Z", upstream="directory")
    sighted(root, old, "2026-01-03T00:00:00Z", name="v1")
    assert given() == new
    sighted(root, part, "2026-01-04T00:00:00Z")  # no whole seal of it
    assert given() == old
    last = sighted(root, new, "2026-01-06T00:00:00Z")
    assert given() == new
    last.write_bytes(last.read_bytes().replace(new.encode(), old.encode()))  # damaged: nothing
    assert given() == old


# ---- names that a disk cannot hold


def test_twins_get_another_name_where_that_is_asked_for(decode, decoder, tmp_path, monkeypatch):
    """A filesystem that does not tell case apart, by a wrapper around what is there already."""
    root, out = tmp_path / "archive", tmp_path / "out"
    handmade.write_identity(root)
    texts = {"A.tar.gz": b"1", "a.tar.gz": b"2", "a:b": b"3"}
    objects = [(data, 0, handmade.object_frames(data, 0)) for data in texts.values()]
    pack = handmade.pack(objects, full=True)
    handmade.write_pack(root, pack)
    files = [handmade.described(path, [data]) for path, data in texts.items()]
    handmade.write_snapshot(root, handmade.manifest(files), [pack])
    lexists = decoder.os.path.lexists

    def folded(path: Path) -> bool:
        path = Path(path)
        names = [p.name.casefold() for p in path.parent.iterdir()] if path.parent == out else []
        return path.name.casefold() in names or lexists(path)

    monkeypatch.setattr(decoder.os.path, "lexists", folded)
    assert decode(root, "restore", "Org/Model", out) == 3
    assert tree(out) == {"A.tar.gz": b"1", "a:b": b"3"}
    shutil.rmtree(out)
    # Options may stand anywhere, also before the repository.
    assert decode(root, "restore", "--rename", "Org/Model", out) == 0
    assert tree(out) == {"A.tar.gz": b"1", "a.tar~2.gz": b"2", "a:b": b"3"}
