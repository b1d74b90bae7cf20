"""The way out: whole snapshots, single files and tensors, a hub cache; and what damage does to them."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import zstandard
from blake3 import blake3
from kit.archive import seals
from kit.repository import REPO, WEIGHTS, bf16, files_below, model, safetensors, weights


@pytest.fixture
def held(served, mirror, archive):
    """The archive holds org/model."""
    assert mirror().code == 0
    return served


def rot(path, at: int = -1) -> None:
    """Flip a bit of a stored file."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)


# ---- plain folders


def test_one_file(held, archive, cli, tmp_path):
    result = cli("restore", "-C", archive, REPO, tmp_path / "out", "--file", "config.json")
    assert result.code == 0
    assert files_below(tmp_path / "out") == {"config.json": held["config.json"]}


def test_some_files(held, archive, cli, tmp_path):
    out = tmp_path / "out"
    args = ("--file", "*.json", "--file", "sub/folder/notes.txt")
    assert cli("restore", "-C", archive, REPO, out, *args).code == 0
    assert set(files_below(out)) == {"config.json", "tokenizer.json", "sub/folder/notes.txt"}


def test_no_such_file(held, archive, cli, tmp_path):
    result = cli("restore", "-C", archive, REPO, tmp_path / "out", "--file", "absent")
    assert result.code == 2
    assert "absent" in result.err
    assert not (tmp_path / "out").exists()


def test_the_last_sentence_says_what_was_proven_of_which_file(held, archive, cli, tmp_path):
    out, words = tmp_path / "out", ("restore", "-C", archive, REPO, tmp_path / "out", "--check")
    assert "; no file's SHA-256 was computed." in cli(*words, "segments").out
    (out / "config.json").unlink()
    told = cli(*words, "segments").out
    others = len(held) - 1
    assert f"the SHA-256 was computed of the {others} files that were there already" in told
    assert "and of no other." in told
    assert "every byte checked against upstream's digests." in cli(*words, "segments").out


def test_a_name_that_is_nearly_right(held, archive, cli, tmp_path):
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "a.txt").write_bytes(b"a")
    assert cli("import", "-C", archive, folder, "--min-free", "0B").code == 0
    decoder = [sys.executable, "-I", archive / "decode.py", "restore"]
    meant = {
        "m": ("folder:m", "folder:m"),
        "datasets/org/model": ("org/model", "org/model"),
        "org/modle": ("org/model", ""),
        "ORG/Model": ("", "org/model"),  # the command takes it in any case
        "nothing/like": ("", ""),
        "folder:n": ("", ""),
    }
    for number, (name, (by_command, by_decoder)) in enumerate(meant.items()):
        result = cli("restore", "-C", archive, name, tmp_path / f"out{number}")
        assert result.code == (0 if name == "ORG/Model" else 2)
        assert (f"Did you mean {by_command}?" in result.err) == bool(by_command)
        assert ("Did you mean" in result.err) == bool(by_command)
        words = [*decoder, name, tmp_path / "no"]
        done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=300)
        assert done.returncode == 2
        assert (f"did you mean {by_decoder}?" in done.stderr) == bool(by_decoder)


@pytest.mark.parametrize("reference", ["org/absent", f"{REPO}@{'0' * 40}", f"{REPO}@"])
def test_no_such_snapshot(held, archive, cli, tmp_path, reference):
    result = cli("restore", "-C", archive, reference, tmp_path / "out")
    assert result.code == 2
    assert not (tmp_path / "out").exists()


def test_what_is_there_and_right_is_kept(held, archive, cli, tmp_path):
    out = tmp_path / "out"
    assert cli("restore", "-C", archive, REPO, out).code == 0
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    (out / "config.json").unlink()
    before.pop(out / "config.json")
    result = cli("restore", "-C", archive, REPO, out)
    assert result.code == 0
    assert f"{len(before)} were there already" in result.out
    assert files_below(out) == held
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    again = cli("restore", "-C", archive, REPO, out)
    assert f"compared {len(held)} files" in again.out
    assert "restored" not in again.out, "nothing was written"


@pytest.mark.parametrize("kind", ["other bytes", "other size", "folder", "link", "dangling link"])
def test_what_is_there_and_wrong_is_refused(held, archive, cli, tmp_path, kind):
    out = tmp_path / "out"
    path, elsewhere = out / "config.json", tmp_path / "elsewhere"
    out.mkdir()
    elsewhere.write_bytes(held["config.json"])
    if kind == "folder":
        path.mkdir()
    elif "link" in kind:
        path.symlink_to(elsewhere if kind == "link" else tmp_path / "nothing")
    else:
        path.write_bytes(b"x" * (len(held["config.json"]) + (kind == "other size")))
    mine = None if path.is_dir() else path.lstat()
    result = cli("restore", "-C", archive, REPO, out)
    assert result.code == 3
    assert "config.json" in result.out
    assert "not overwritten" in result.out
    assert "→ Restore into another folder" in result.out
    assert "6 files restored, 1 file could not be restored, 1 of them refused" in result.out
    again = cli("restore", "-C", archive, REPO, out)
    assert again.code == 3
    assert "0 files restored, 6 were there already, 1 file could not be restored" in again.out
    only = cli("restore", "-C", archive, REPO, out, "--file", "config.json")
    assert only.code == 2
    assert mine is None or (path.lstat().st_ino, path.lstat().st_mtime_ns) == (
        mine.st_ino,
        mine.st_mtime_ns,
    )
    assert not (tmp_path / "nothing").exists()
    rest = {name: data for name, data in held.items() if name != "config.json"}
    assert {k: v for k, v in files_below(out).items() if k != "config.json"} == rest


def test_names_as_long_as_names_can_be(hub, archive, mirror, restores):
    files = {"ü" * 127 + "x": b"1", "深" * 85: b"2", f"{'a' * 255}/{'b' * 250}.json": b"3"}
    hub.create(REPO, files)
    assert mirror().code == 0
    restores(archive, files)


def test_into_a_file(held, archive, cli, tmp_path):
    (tmp_path / "out").write_text("mine")
    for below in ("out", "out/deeper"):
        result = cli("restore", "-C", archive, REPO, tmp_path / below)
        assert result.code == 2
        assert result.err.count("\n") == 2, result.err
        assert "is not a folder" in result.err
    tensor = cli("restore", "-C", archive, REPO, tmp_path / "out", "--tensor", "norm.weight")
    assert (tensor.code, "is not a folder" in tensor.err) == (2, True)
    assert (tmp_path / "out").read_text() == "mine"


def test_onto_a_medium_that_is_read_only_is_one_sentence(held, archive, cli, tmp_path, monkeypatch):
    out = tmp_path / "out"
    out.mkdir()
    real, access = os.open, os.access

    def refuse(path, flags, *rest, **more):
        if str(path).startswith(str(out)) and flags & os.O_CREAT:
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        return real(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", refuse)

    def may(path, mode):
        forbidden = mode & os.W_OK and str(path).startswith(str(out))
        return not forbidden and access(path, mode)

    monkeypatch.setattr(os, "access", may)
    result = cli("restore", "-q", "-C", archive, REPO, out)
    assert (result.code, result.out) == (1, "")
    assert result.err.count("archiver: ") == 1
    assert "cannot be written: Read-only file system." in result.err


def test_nothing_but_the_files_is_left(held, archive, cli, tmp_path):
    assert cli("restore", "-C", archive, REPO, tmp_path / "out").code == 0
    found = {p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*")}
    assert found == set(held) | {"sub", "sub/folder"}


# ---- tensors


def test_one_tensor_loads(held, archive, cli, tmp_path):
    from safetensors import safe_open

    out = tmp_path / "out"
    result = cli("restore", "-C", archive, REPO, out, "--tensor", "layer.weight")
    assert result.code == 0
    (path,) = out.iterdir()
    with safe_open(path, "np") as file:
        assert list(file.keys()) == ["layer.weight"]
        assert file.get_slice("layer.weight").get_shape() == [32, 128]
        assert file.get_slice("layer.weight").get_dtype() == "BF16"
    assert path.read_bytes().endswith(bf16(1, 32, 128))
    again = cli("restore", "-C", archive, REPO, out, "--tensor", "layer.weight")
    assert (again.code, again.out) == (0, f"{path} was there already.\n")
    for other in (b"\0" * path.stat().st_size, b"short"):
        path.write_bytes(other)
        again = cli("restore", "-C", archive, REPO, out, "--tensor", "layer.weight")
        assert (again.code, path.read_bytes()) == (2, other)


@pytest.mark.parametrize("name", ["absent", "", "../../etc/passwd"])
def test_no_such_tensor(held, archive, cli, tmp_path, name):
    result = cli("restore", "-C", archive, REPO, tmp_path / "out", "--tensor", name or " ")
    assert result.code == 2
    assert not (tmp_path / "out").exists()


def test_a_tensor_with_a_hostile_name_stays_inside(hub, archive, mirror, cli, tmp_path):
    name = "../../../up/../evil\u202e\x1b[31m"
    hub.create(REPO, {WEIGHTS: safetensors({name: ("U8", (4,), b"abcd")})})
    assert mirror().code == 0
    before = set(tmp_path.rglob("*"))
    result = cli("restore", "-C", archive, REPO, tmp_path / "out", "--tensor", name)
    assert result.code == 0
    assert "\x1b" not in result.out + result.err
    new = set(tmp_path.rglob("*")) - before
    assert new == {tmp_path / "out", *(tmp_path / "out").iterdir()}


def test_tensors_without_bytes_or_shape(hub, archive, mirror, cli, tmp_path):
    from safetensors import safe_open

    tensors = {"none": ("F32", (0, 3), b""), "scalar": ("F32", (), b"\0\0\x80?")}
    hub.create(REPO, {WEIGHTS: safetensors(tensors)})
    assert mirror().code == 0
    for name, (_, shape, data) in tensors.items():
        path = tmp_path / f"{name}.safetensors"
        assert cli("restore", "-C", archive, REPO, path, "--tensor", name).code == 0
        with safe_open(path, "np") as file:
            assert file.get_tensor(name).shape == shape
            assert file.get_tensor(name).tobytes() == data


# ---- the layout of a hub's cache


@pytest.fixture
def offline(tmp_path):
    """Runs Python code where the hub's client is offline and its cache is tmp_path/cache."""

    def run(code: str) -> str:
        environ = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path / "cache")}
        ran = subprocess.run(
            [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    return run


def test_a_cache_that_the_hubs_client_loads_offline(held, archive, cli, tmp_path, offline):
    cache = tmp_path / "cache"
    assert cli("restore", "-C", archive, REPO, cache, "--layout", "hf-cache").code == 0
    folder = offline(
        "from huggingface_hub import hf_hub_download, snapshot_download as s\n"
        f"assert open(hf_hub_download({REPO!r}, 'config.json'), 'rb').read()\n"
        f"print(s({REPO!r}, local_files_only=True))"
    ).strip()
    (seal,) = seals(archive)
    assert folder == str(cache / "models--org--model/snapshots" / seal.name.partition(".")[0])
    assert files_below(Path(folder)) == held
    assert cli("restore", "-C", archive, REPO, cache, "--layout", "hf-cache").code == 0


def test_the_cache_s_blobs_are_named_by_what_they_hold(held, archive, cli, tmp_path):
    assert cli("restore", "-C", archive, REPO, tmp_path, "--layout", "hf-cache").code == 0
    snapshot = next((tmp_path / "models--org--model/snapshots").iterdir())
    for name, data in held.items():
        blob = (snapshot / name).resolve().name
        git = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        lfs = name in {WEIGHTS, "tokenizer.json"}
        assert blob == (hashlib.sha256(data).hexdigest() if lfs else git)


def test_the_hubs_client_finds_its_own_cache_in_it(held, hub, archive, cli, tmp_path):
    """A cache restored here has the same files as one that the hub's client made itself."""
    from huggingface_hub import snapshot_download

    assert cli("restore", "-C", archive, REPO, tmp_path / "a", "--layout", "hf-cache").code == 0
    snapshot_download(REPO, cache_dir=tmp_path / "b", endpoint=hub.endpoint)

    def links(root):
        return {
            path.relative_to(root): str(path.readlink()) if path.is_symlink() else path.read_bytes()
            for path in (root / "models--org--model").rglob("*")
            if (path.is_file() or path.is_symlink())
            and not {".no_exist", "trees"} & set(path.parts)
        }

    assert links(tmp_path / "a") == links(tmp_path / "b")


def test_two_revisions_in_one_cache(hub, held, archive, mirror, cli, tmp_path, offline):
    old = seals(archive)[0].name.partition(".")[0]
    cache = tmp_path / "cache"
    new = hub.commit(REPO, {"config.json": b"{}"})
    assert mirror().code == 0
    for revision in (old, new):
        args = (f"{REPO}@{revision}", cache, "--layout", "hf-cache")
        assert cli("restore", "-C", archive, *args).code == 0
    blobs = len(set((cache / "models--org--model/blobs").iterdir()))
    assert blobs == len(held) + 1

    def config(revision: str) -> str:
        got = f"hf_hub_download({REPO!r}, 'config.json', revision={revision!r})"
        return offline(f"from huggingface_hub import hf_hub_download\nprint(open({got}).read())")

    assert config("main") == "{}\n"
    assert config(old).encode() == held["config.json"] + b"\n"


# ---- import


def test_a_plain_folder(archive, cli, restores, tmp_path):
    folder = tmp_path / "my model"
    files = model()
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    imported = cli("import", "-C", archive, folder)
    assert imported.code == 0
    assert "Importing " in imported.err
    restores(archive, files, "folder:my-model")
    first = seals(archive)
    assert cli("import", "-C", archive, folder).code == 0
    assert seals(archive) == first
    (folder / "config.json").write_bytes(b"{}")
    assert cli("import", "-C", archive, folder).code == 0
    assert len(seals(archive)) == 2
    assert files_below(folder) == files | {"config.json": b"{}"}


def test_a_cache_that_the_hubs_client_made(hub, served, archive, cli, restores, mirror, tmp_path):
    from huggingface_hub import snapshot_download

    cache = tmp_path / "hub"
    snapshot_download(REPO, cache_dir=cache, endpoint=hub.endpoint)
    assert cli("import", "-C", archive, cache).code == 0
    restores(archive, served)
    hub.requests.clear()
    result = mirror()  # the hub's digests agree with the cache's: nothing is fetched
    assert result.code == 0
    assert not hub.requests.bodies()


def test_a_cache_with_a_wrong_byte_is_refused(hub, served, archive, cli, tmp_path):
    from huggingface_hub import snapshot_download

    snapshot_download(REPO, cache_dir=tmp_path / "hub", endpoint=hub.endpoint)
    name = hashlib.sha256(served[WEIGHTS]).hexdigest()
    rot(tmp_path / "hub/models--org--model/blobs" / name, 5000)
    result = cli("import", "-C", archive, tmp_path / "hub")
    assert result.code == 22
    assert WEIGHTS in result.err
    assert not seals(archive)


def test_half_a_cache_is_no_revision(hub, served, archive, cli, tmp_path):
    from huggingface_hub import snapshot_download

    snapshot_download(REPO, cache_dir=tmp_path / "hub", endpoint=hub.endpoint)
    link = next((tmp_path / "hub/models--org--model/snapshots").iterdir()) / WEIGHTS
    link.resolve().unlink()
    link.unlink()
    result = cli("import", "-C", archive, tmp_path / "hub")
    assert result.code == 23
    assert WEIGHTS in result.err
    assert not seals(archive)


def test_no_folder(archive, cli, tmp_path):
    result = cli("import", "-C", archive, tmp_path / "absent")
    assert result.code == 23
    assert "absent" in result.err


# ---- damage


def pack_of(archive):
    (pack,) = (archive / "packs").rglob("*.pack")
    return pack


def index_of(archive) -> list[list]:
    data = pack_of(archive).read_bytes()
    at = int.from_bytes(data[-8:], "little")
    return json.loads(data[at + 8 : -16])["objects"]


def test_a_damaged_object_costs_its_file_and_no_other(held, archive, cli, tmp_path):
    digest = blake3(bf16(1, 32, 128)).hexdigest()
    (entry,) = [row for row in index_of(archive) if row[0] == digest]
    rot(pack_of(archive), entry[1] + entry[2] - 20)
    result = cli("restore", "-C", archive, REPO, tmp_path / "out")
    assert result.code == 20
    assert WEIGHTS in result.out
    assert "layer.weight rows 0..31" in result.out
    assert "embed" not in result.out
    rest = {name: data for name, data in held.items() if name != WEIGHTS}
    assert files_below(tmp_path / "out") == rest
    told = cli("restore", "--json", "-C", archive, REPO, tmp_path / "out", "--file", WEIGHTS)
    (failure,) = json.loads(told.out.splitlines()[-1])["failures"]
    assert (failure["object"], failure["pack"]) == (digest, pack_of(archive).stem)
    assert failure["tensors"] == ["layer.weight rows 0..31"]
    assert failure["tensor_rows"] == [{"name": "layer.weight", "first": 0, "last": 31}]
    tensor = cli("restore", "-C", archive, REPO, tmp_path / "t", "--tensor", "layer.weight")
    assert tensor.code == 20
    assert not list((tmp_path / "t").glob("*"))
    assert cli("restore", "-C", archive, REPO, tmp_path / "t", "--tensor", "norm.weight").code == 0


def test_a_flip_anywhere_in_an_object_names_its_tensor(held, archive, cli, tmp_path):
    digest = blake3(bf16(1, 32, 128)).hexdigest()
    (entry,) = [row for row in index_of(archive) if row[0] == digest]
    whole = pack_of(archive).read_bytes()
    for at in [*range(0, 250, 9), entry[2] // 2, entry[2] - 1]:
        rot(pack_of(archive), entry[1] + at)
        args = ("--file", WEIGHTS)
        result = cli("restore", "-C", archive, REPO, tmp_path / f"out{at}", *args)
        # 0: a flip that changes nothing, such as that of a frame's unused bit
        assert result.code in {0, 20}
        if result.code:
            assert f"{WEIGHTS}: " in result.out
            assert "layer.weight rows 0..31" in result.out, result.out
        else:
            assert (tmp_path / f"out{at}" / WEIGHTS).read_bytes() == held[WEIGHTS]
        pack_of(archive).write_bytes(whole)


def test_a_forged_object_is_not_believed(held, archive, cli, tmp_path):
    """Whole frames with right checksums, only not the bytes that the object's name promises."""
    whole = pack_of(archive).read_bytes()
    rows = index_of(archive)
    name = blake3(held["config.json"]).hexdigest()
    at = next(number for number, row in enumerate(rows) if row[0] == name)
    _, offset, stored, size, codec, *_ = rows[at]
    frame = zstandard.ZstdCompressor(write_checksum=True).compress(b"x" * size)
    header = {"blake3": name, "size": size, "codec": codec, "frames": [len(frame)]}
    forged = skippable(0x51, header) + frame
    grown = len(forged) - stored
    rows[at][2] = len(forged)
    rows[at][5] = [len(frame)]
    for row in rows[at + 1 :]:
        row[1] += grown
    end = int.from_bytes(whole[-8:], "little")
    body = whole[:offset] + forged + whole[offset + stored : end]
    index = skippable(0x52, {"kind": "index", "objects": rows})
    pack_of(archive).chmod(0o600)
    pack_of(archive).write_bytes(body + index + whole[-16:-8] + len(body).to_bytes(8, "little"))
    result = cli("restore", "-C", archive, REPO, tmp_path / "out")
    assert result.code == 20
    assert "1 file could not be restored" in result.out
    assert "config.json" in result.out
    rest = {path: data for path, data in held.items() if path != "config.json"}
    assert files_below(tmp_path / "out") == rest


def skippable(kind: int, content: dict) -> bytes:
    payload = json.dumps(content, separators=(",", ":"), sort_keys=True).encode()
    return bytes([kind, 0x2A, 0x4D, 0x18]) + len(payload).to_bytes(4, "little") + payload


def test_a_file_that_is_not_what_its_manifest_says(held, archive, cli, tmp_path):
    """Each object is whole and so is the manifest, but they are not of one file."""
    (path,) = (archive / "manifests").rglob("*.zst")
    (seal_path,) = seals(archive)
    manifest = json.loads(zstandard.ZstdDecompressor().decompress(path.read_bytes()))
    entry = next(one for one in manifest["files"] if one["path"] == "config.json")
    entry["sha256"] = "0" * 64
    plain = canonical(manifest)
    digest = blake3(plain).hexdigest()
    revision = path.name.partition(".")[0]
    packed = zstandard.ZstdCompressor().compress(plain)
    path.with_name(f"{revision}.{digest}.json.zst").write_bytes(packed)
    seal = json.loads(seal_path.read_bytes())
    seal["manifest"] = {"blake3": digest, "size": len(plain)}
    seal_path.unlink()
    name = f"{revision}.{blake3(canonical(seal)).hexdigest()}.json"
    seal_path.with_name(name).write_bytes(canonical(seal))
    result = cli("restore", "-C", archive, REPO, tmp_path / "out")
    assert result.code == 20
    assert "config.json does not come out as its manifest says" in result.out
    assert not (tmp_path / "out" / "config.json").exists()


def canonical(content: dict) -> bytes:
    return json.dumps(content, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode()


def test_a_missing_pack_names_every_file(held, archive, cli, tmp_path):
    pack_of(archive).unlink()
    result = cli("restore", "-C", archive, REPO, tmp_path / "out")
    assert result.code == 20
    assert all(name in result.out for name, data in held.items() if data)
    assert files_below(tmp_path / "out") == {"empty.txt": b""}


def test_damage_as_json(held, archive, cli, tmp_path):
    pack_of(archive).unlink()
    result = cli("restore", "-C", archive, REPO, tmp_path / "out", "--json")
    assert result.code == 20
    failures = {row["path"]: row for row in result.records[0]["failures"]}
    assert failures[WEIGHTS]["exit_code"] == 20
    assert failures[WEIGHTS]["tensors"] == [
        "embed.weight rows 0..63",
        "layer.weight rows 0..31",
        "norm.weight rows 0..127",
    ]


def test_a_cache_with_a_damaged_file_gets_no_name(held, archive, cli, tmp_path):
    pack_of(archive).unlink()
    cache = tmp_path / "cache"
    assert cli("restore", "-C", archive, REPO, cache, "--layout", "hf-cache").code == 20
    assert not (cache / "models--org--model/refs").exists()


def test_a_lost_pack_is_healed_by_mirroring_again(held, archive, mirror, restores):
    pack_of(archive).unlink()
    assert mirror().code == 0
    restores(archive, held)


@pytest.mark.parametrize("what", ["snapshots", "manifests", "packs"])
def test_mirroring_again_never_seals_damage(held, archive, mirror, cli, restores, tmp_path, what):
    """After any file is lost or has rotted, a new run either heals it or says so."""
    (path,) = [path for path in (archive / what).rglob("*") if path.is_file()]
    rot(path, 100)
    (archive / "catalogue.sqlite").unlink()
    result = mirror()
    assert result.code in {0, 20}, result.err
    out = cli("restore", "-C", archive, REPO, tmp_path / "out")
    assert out.code in {0, 20}
    if out.code == 0:
        assert files_below(tmp_path / "out") == held
    # what a run says it sealed now must be whole
    assert "sealed" not in result.out or out.code == 0, out


# ---- with neither network nor index nor the heavy parts


BLOCK = """
import socket, sys
def no(*_, **__): raise AssertionError("the network was touched")
socket.socket = socket.create_connection = socket.getaddrinfo = no
from archiver.cli.main import invoke
code = invoke(sys.argv[1:])
heavy = {"sqlalchemy", "sqlite3", "huggingface_hub", "httpx2", "torch", "zfec"} & set(sys.modules)
assert not heavy, heavy
sys.exit(code)
"""


def test_restoring_needs_neither_network_nor_catalogue(held, archive, tmp_path):
    for path in archive.glob("catalogue*"):
        path.unlink()
    shutil.rmtree(archive / "journal")
    shutil.rmtree(archive / "tmp", ignore_errors=True)
    args = ["restore", "-C", str(archive), REPO, str(tmp_path / "out")]
    ran = subprocess.run(
        [sys.executable, "-c", BLOCK, *args], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert files_below(tmp_path / "out") == held
    assert not list(archive.glob("catalogue*"))


def test_a_reader_that_goes_away(held, archive):
    command = [sys.executable, "-m", "archiver", "list", "-C", str(archive)]
    ran = subprocess.run(
        f"{' '.join(command)} | true", shell=True, capture_output=True, text=True, check=False
    )
    assert "Traceback" not in ran.stderr
    assert "Exception" not in ran.stderr


def test_weights_are_what_the_helpers_say():
    from safetensors.numpy import load

    assert weights()
    assert load(safetensors({"x": ("F32", (1,), b"\0\0\x80?")}))["x"].tolist() == [1.0]
