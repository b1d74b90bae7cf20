"""The reference decoder, against the vectors and against archives written by hand.

It runs as a stranger would run it: as a program in another process, once with a Python package for
Zstandard, once with nothing but the standard library and the program `zstd`, and once without the program.
"""

import ast
import importlib.util
import json
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import blake3
import pytest
import zstandard
from kit import handmade

ROOT = Path(__file__).parents[2]
CARRIED = ROOT / "archiver" / "carried"
VECTORS = json.loads(Path(__file__).with_name("vectors.json").read_text())
EDITION_2 = json.loads((Path(__file__).parent / "vectors" / "edition-2.json").read_text())
OPTIONAL = {"compression.zstd", "backports.zstd", "zstandard", "pyzstd", "blake3"}

BACKENDS = {
    "package": [sys.executable, "-I"],
    "program": [sys.executable, "-I", "-S"],  # no site-packages: the standard library alone
    "nothing": [sys.executable, "-I", "-S"],
}


needs_zstd = pytest.mark.skipif(
    shutil.which("zstd") is None and not os.environ.get("CI"),  # where CI is set, it fails
    reason="the program zstd is not installed",
)
every_backend = pytest.mark.parametrize(
    "backend", ["package", pytest.param("program", marks=needs_zstd), "nothing"]
)


def decode(archive: Path, *arguments: object, backend: str = "package"):
    return subprocess.run(
        [*BACKENDS[backend], archive / "decode.py", *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "PATH": "/nowhere"} if backend == "nothing" else None,
    )


def plain_of(vector: dict[str, str]) -> bytes:
    kind, _, count = vector["plain"].partition(":")
    return bytes(int(count)) if kind == "zeros" else bytes.fromhex(vector["plain"])


def words(count: int, width: int, seed: int) -> bytes:
    """Floats such as weights are, little-endian, of 2 or 4 bytes."""
    rng = random.Random(seed)
    sign_and_exponent = [rng.choice((0x3D, 0x3C, 0xBD, 0xBC, 0x00, 0x7F)) for _ in range(count)]
    return b"".join(rng.randbytes(width - 1) + bytes([top]) for top in sign_and_exponent)


CONFIG = b'{"model_type": "tiny"}\n'
PARTS = [words(3000, 2, 1), words(2000, 4, 2) + b"\x01\x02", words(2500, 2, 3) + b"\x07"]
PARTS += [words(1500, 4, 4), random.Random(5).randbytes(700)]
FILES = {
    "config.json": [CONFIG],
    "empty": [],
    "weights/model.safetensors": PARTS,
    "weights/shared.bin": [PARTS[2], CONFIG, PARTS[2]],
    "übersicht 🧊.txt": [CONFIG, PARTS[4]],
}


def stored(plain: bytes, codec: int) -> tuple[bytes, int, bytes]:
    return plain, codec, handmade.object_frames(plain, codec, 126)


PACKS = [
    handmade.pack([stored(CONFIG, 0), stored(PARTS[0], 1), stored(PARTS[1], 2)]),
    handmade.pack([stored(PARTS[2], 3), stored(PARTS[3], 4), stored(PARTS[4], 0)]),
]
MANIFEST = handmade.manifest([handmade.described(path, parts) for path, parts in FILES.items()])


def build(root: Path, manifest: bytes = MANIFEST, packs: list[bytes] = PACKS) -> Path:
    handmade.write_identity(root)
    for data in packs:
        handmade.write_pack(root, data)
    handmade.write_snapshot(root, manifest, packs)
    for name in ("decode.py", "README.txt"):
        shutil.copy(CARRIED / name, root)
    return root


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return build(tmp_path / "archive")


def pack_path(archive: Path, data: bytes) -> Path:
    name = handmade.digest(data)
    return archive / "packs" / name[:2] / f"{name}.pack"


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x20
    path.write_bytes(data)


def tree(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


EXPECTED = {path: b"".join(parts) for path, parts in FILES.items()}


@pytest.fixture(scope="module")
def module() -> ModuleType:
    """The decoder in this process, for what would be slow from outside."""
    spec = importlib.util.spec_from_file_location("reference_decoder", CARRIED / "decode.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def inside(module, archive, monkeypatch):
    """Runs the decoder in this process; returns its exit code."""

    def run(*arguments: object) -> int:
        command = ["decode.py", "-C", str(archive), *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", command)
        return module.main()

    return run


# What it reads


@every_backend
def test_restores_every_file(archive, tmp_path, backend):
    result = decode(archive, "restore", "Org/Model", tmp_path / "out", backend=backend)
    assert (result.returncode, tree(tmp_path / "out")) == (0, EXPECTED), result.stderr


@every_backend
def test_verifies_and_lists_and_writes_nothing(archive, backend):
    before = tree(archive)
    result = decode(archive, "verify", backend=backend)
    assert (result.returncode, result.stderr) == (0, "")
    assert "5 of 5 files good" in result.stdout
    result = decode(archive, "list", backend=backend)
    assert result.returncode == 0
    assert f"Org/Model@{handmade.REVISION}" in result.stdout
    assert tree(archive) == before


@every_backend
def test_objects_are_checked_without_the_package_when_asked(archive, backend):
    assert decode(archive, "verify", "--blake3", backend=backend).returncode == 0


@every_backend
def test_reads_every_vector(tmp_path, backend):
    good = [*VECTORS["objects"], *EDITION_2["objects"]]
    plain = [plain_of(vector) for vector in good]
    objects = [
        (data, vector["codec"], bytes.fromhex(vector["object"]))
        for data, vector in zip(plain, good, strict=True)
    ]
    names = [f"{number:03}" for number in range(len(good))]
    described = [handmade.described(n, [d]) for n, d in zip(names, plain, strict=True)]
    pack = handmade.pack(objects)
    archive = build(tmp_path / "archive", handmade.manifest(described), [pack])
    result = decode(archive, "restore", "Org/Model", tmp_path / "out", backend=backend)
    assert result.returncode == 0, result.stderr
    restored = tree(tmp_path / "out")
    for name, vector, data in zip(names, good, plain, strict=True):
        assert restored[name] == data, vector["name"]


@every_backend
def test_refuses_every_vector_that_is_not_good(tmp_path, backend):
    bad = [*VECTORS["refused"], *EDITION_2["malformed"]]
    pack, rows, files = b"", [], []
    for number, vector in enumerate(bad):
        data = bytes.fromhex(vector["object"])
        start = data.index(b'"blake3":"') + 10
        data = data[:start] + vector["blake3"].encode() + data[start + 64 :]
        rows.append([vector["blake3"], len(pack), len(data), vector["size"], 0])
        pack += data
        file = handmade.described(f"{number:03}", [bytes(vector["size"])])
        files.append(file | {"segments": [[vector["size"], vector["blake3"]]]})
    index = handmade.canonical({"kind": "index", "objects": rows})
    pack += handmade.skippable(2, index)
    pack += handmade.skippable(3, (len(pack) - len(index) - 8).to_bytes(8, "little"))
    archive = build(tmp_path / "archive", handmade.manifest(files), [pack])
    result = decode(archive, "restore", "Org/Model", tmp_path / "out", backend=backend)
    assert result.returncode == 20
    assert tree(tmp_path / "out") == {}


def test_the_vectors_of_pack_manifest_and_seal(tmp_path):
    pack = bytes.fromhex(VECTORS["pack"]["hex"])
    assert handmade.digest(pack) == VECTORS["pack"]["blake3"]
    archive = tmp_path / "archive"
    handmade.write_identity(archive)
    handmade.write_pack(archive, pack)
    manifest, seal = VECTORS["manifest"], VECTORS["seal"]
    for kind, vector, content, suffix in (
        ("manifests", manifest, "stored", "json.zst"),
        ("snapshots", seal, "hex", "json"),
    ):
        path = archive / kind / "org" / "model"
        path.mkdir(parents=True)
        name = f"{handmade.REVISION}.{vector['blake3']}.{suffix}"
        (path / name).write_bytes(bytes.fromhex(vector[content]))
    shutil.copy(CARRIED / "decode.py", archive)
    result = decode(archive, "verify")
    assert (result.returncode, result.stderr) == (0, "")
    assert "4 of 4 files good" in result.stdout


def test_the_vectors_can_still_be_made(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import make_vectors

    made = make_vectors.build()
    for old, new in zip(VECTORS["objects"], made["objects"], strict=True):
        assert {**old, "object": ""} == {**new, "object": ""}
    assert made["canonical"] == VECTORS["canonical"]
    assert made["manifest"]["hex"] == VECTORS["manifest"]["hex"]


def test_an_archive_elsewhere_is_read_with_an_option(archive, tmp_path):
    (archive / "decode.py").unlink()
    shutil.copy(CARRIED / "decode.py", tmp_path)
    result = decode(tmp_path, "restore", "Org/Model", tmp_path / "out", "-C", archive)
    assert (result.returncode, tree(tmp_path / "out")) == (0, EXPECTED)


# Which snapshot


def test_a_revision_is_chosen_by_its_beginning(archive, tmp_path):
    other = "f" * 40
    manifest = handmade.manifest([handmade.described("config.json", [CONFIG])], revision=other)
    handmade.write_snapshot(archive, manifest, PACKS[:1], sealed="2020-01-01T00:00:00Z")
    assert decode(archive, "restore", "Org/Model@ff", tmp_path / "old").returncode == 0
    assert tree(tmp_path / "old") == {"config.json": CONFIG}
    assert decode(archive, "restore", "Org/Model", tmp_path / "new").returncode == 0
    assert tree(tmp_path / "new") == EXPECTED
    assert decode(archive, "restore", "Org/Model@e", tmp_path / "none").returncode == 2
    assert decode(archive, "restore", "Org/Other", tmp_path / "none").returncode == 2


def test_a_whole_snapshot_goes_before_a_later_one_of_chosen_files(archive, tmp_path):
    chosen = handmade.manifest([handmade.described("config.json", [CONFIG])])
    selection = {"include": ["*.json"], "exclude": []}
    later = "2030-01-01T00:00:00Z"
    handmade.write_snapshot(archive, chosen, PACKS[:1], sealed=later, selection=selection)
    assert decode(archive, "restore", "Org/Model", tmp_path / "out").returncode == 0
    assert tree(tmp_path / "out") == EXPECTED


# What it survives


@pytest.mark.parametrize("lost", ["index", "trailer", "head", "cut", "archive.json"])
def test_restores_without(archive, tmp_path, lost):
    path = pack_path(archive, PACKS[0])
    index = PACKS[0].index(b'{"kind":"index"')
    if lost == "archive.json":
        (archive / lost).unlink()
    elif lost == "cut":
        path.write_bytes(PACKS[0][: index - 3])
    else:
        flip(path, {"index": index, "trailer": len(PACKS[0]) - 15, "head": 9}[lost])
    result = decode(archive, "restore", "Org/Model", tmp_path / "out")
    assert (result.returncode, tree(tmp_path / "out")) == (0, EXPECTED), result.stderr
    assert decode(archive, "verify").returncode == 20


def test_an_index_that_lies_is_not_believed(archive, tmp_path):
    rows = PACKS[0].index(b'"objects":[[')
    offset = PACKS[0].index(b'",', rows) + 2
    flip(pack_path(archive, PACKS[0]), offset)
    changed = bytearray(PACKS[0])
    changed[offset] = ord("9")
    pack_path(archive, PACKS[0]).write_bytes(changed)
    result = decode(archive, "restore", "Org/Model", tmp_path / "out")
    assert (result.returncode, tree(tmp_path / "out")) == (0, EXPECTED), result.stderr


def test_a_lost_pack_is_replaced_by_any_that_has_the_objects(archive, tmp_path):
    pack_path(archive, PACKS[1]).unlink()
    assert decode(archive, "restore", "Org/Model", tmp_path / "half").returncode == 20
    assert set(tree(tmp_path / "half")) == {"config.json", "empty"}
    handmade.write_pack(archive, handmade.pack([stored(part, 0) for part in PARTS[2:]]))
    result = decode(archive, "restore", "Org/Model", tmp_path / "out")
    assert (result.returncode, tree(tmp_path / "out")) == (0, EXPECTED)


# What it refuses


@every_backend
def test_a_damaged_object_is_named_and_its_file_never_appears(archive, tmp_path, backend):
    flip(pack_path(archive, PACKS[0]), PACKS[0].index(b'{"kind":"index"') - 20)
    result = decode(archive, "restore", "Org/Model", tmp_path / "out", backend=backend)
    assert result.returncode == 20
    assert "weights/model.safetensors" in result.stderr
    assert handmade.digest(PARTS[1]) in result.stderr
    good = {path: data for path, data in EXPECTED.items() if path != "weights/model.safetensors"}
    assert tree(tmp_path / "out") == good
    assert decode(archive, "verify", backend=backend).returncode == 20


def test_no_flipped_byte_of_a_pack_ever_restores_other_bytes(archive, tmp_path, inside, capsys):
    path = pack_path(archive, PACKS[1])
    for number, at in enumerate(range(0, len(PACKS[1]), 211)):
        flip(path, at)
        out = tmp_path / str(number)
        code = inside("restore", "Org/Model", out)
        restored = tree(out)
        assert code in (0, 20)
        assert restored.items() <= EXPECTED.items()
        assert (code == 0) == (restored == EXPECTED)
        path.write_bytes(PACKS[1])
    capsys.readouterr()


def test_a_file_with_another_sha256_is_refused(tmp_path):
    file = handmade.described("config.json", [CONFIG]) | {"sha256": "0" * 64}
    archive = build(tmp_path / "archive", handmade.manifest([file]), PACKS[:1])
    result = decode(archive, "restore", "Org/Model", tmp_path / "out")
    assert result.returncode == 20
    assert "config.json" in result.stderr
    assert tree(tmp_path / "out") == {}


def test_a_manifest_without_a_seal_is_restored_and_told(archive, tmp_path):
    """Whether the seal is damaged or gone; whoever names a seal's manifest goes before it."""
    (path,) = (p for p in (archive / "snapshots").rglob("*") if p.is_file())
    flip(path, path.stat().st_size // 2)
    result = decode(archive, "restore", "Org/Model", tmp_path / "out")
    assert (result.returncode, tree(tmp_path / "out")) == (0, EXPECTED), result.stderr
    assert path.name in result.stderr
    assert "without a seal" in result.stderr
    path.unlink()
    result = decode(archive, "list")
    assert "without-a-seal" in result.stdout
    again = decode(archive, "restore", f"Org/Model@{handmade.REVISION[:6]}", tmp_path / "again")
    assert (again.returncode, tree(tmp_path / "again")) == (0, EXPECTED), again.stderr
    other = handmade.manifest([handmade.described("config.json", [CONFIG])], revision="f" * 40)
    handmade.write_snapshot(archive, other, PACKS[:1], sealed="2020-01-01T00:00:00Z")
    assert decode(archive, "restore", "Org/Model", tmp_path / "sealed").returncode == 0
    assert tree(tmp_path / "sealed") == {"config.json": CONFIG}


def test_a_damaged_manifest_without_a_copy_is_refused(archive, tmp_path):
    (path,) = (p for p in (archive / "manifests").rglob("*") if p.is_file())
    flip(path, path.stat().st_size // 2)
    result = decode(archive, "restore", "Org/Model", tmp_path / "out")
    assert result.returncode == 20
    assert path.name in result.stderr
    assert not (tmp_path / "out").exists()
    assert decode(archive, "verify").returncode == 20


HOSTILE = [
    ["../escape"],
    ["a/../../escape"],
    ["/etc/escape"],
    [""],
    ["a//b"],
    ["./a"],
    ["a/"],
    ["a\x00b"],
    ["\ud800"],
    ["x" * 256],
    ["/".join(["y" * 200] * 6)],
    ["same", "same"],
    ["a", "a/b"],
    ["a!", "a", "a.b", "a/b"],
]


@pytest.mark.parametrize("escaped", [True, False])
def test_what_only_some_filesystems_cannot_hold_is_restored(archive, inside, tmp_path, escaped):
    """Case, forms of Unicode, control characters; escaped is not canonical, and says the same."""
    paths = [
        "back\\slash",
        "a\x1b[31m",
        "a\x85",
        "line\nfeed",
        "Case",
        "cASE",
        "caf\u00e9",
        "cafe\u0301",
        "A/b",
        "a",
        "\u8a9e\U0001f600:?",
    ]
    files = [handmade.described("ok", [CONFIG])]
    manifest = json.loads(handmade.manifest(files))
    manifest["files"] += [files[0] | {"path": path} for path in paths]
    text = json.dumps(manifest, ensure_ascii=escaped).encode()
    handmade.write_snapshot(archive, text, PACKS, sealed="2030-01-01T00:00:00Z")
    assert inside("restore", "Org/Model", tmp_path / "out") == 0
    assert set(tree(tmp_path / "out")) == {"ok", *paths}


@pytest.mark.parametrize("paths", HOSTILE, ids=lambda paths: ascii(paths)[:30])
def test_hostile_paths_are_refused_before_anything_is_written(archive, inside, tmp_path, paths):
    files = [handmade.described("ok", [CONFIG])]
    manifest = json.loads(handmade.manifest(files))
    manifest["files"] += [files[0] | {"path": path} for path in paths]
    text = json.dumps(manifest).encode()  # not canonical: \ud800 exists only as an escape
    handmade.write_snapshot(archive, text, PACKS, sealed="2030-01-01T00:00:00Z")
    before = tree(tmp_path)
    assert inside("restore", "Org/Model", tmp_path / "out") == 20
    assert tree(tmp_path) == before


SHAPES = [
    {"size": 23.0, "segments": [[23.0, handmade.digest(CONFIG)]]},
    {"size": True},
    {"segments": [[23]]},
    {"segments": [[23, handmade.digest(CONFIG)[:-1]]]},
    {"segments": [[23, ["x"]]]},
    {"segments": "text"},
    {"segments": [[-5, handmade.digest(CONFIG)], [28, handmade.digest(CONFIG)]]},
    {"segments": [[1 << 40, handmade.digest(CONFIG)]], "size": 1 << 40},
    {"sha256": 7},
    {"path": 7},
    {"path": ["a"]},
]


@pytest.mark.parametrize("change", SHAPES, ids=str)
def test_a_manifest_of_another_shape_is_damage(archive, inside, tmp_path, change, capsys):
    file = handmade.described("config.json", [CONFIG]) | change
    manifest = handmade.manifest([file])
    handmade.write_snapshot(archive, manifest, PACKS, sealed="2030-01-01T00:00:00Z")
    assert inside("restore", "Org/Model", tmp_path / "out") == 20
    assert not (tmp_path / "out" / "config.json").exists()
    assert "damage" in capsys.readouterr().err


HEADERS = [
    {"size": 23.0},
    {"codec": "0"},
    {"codec": 3, "emax": 1.5},
    {"frames": [2.5]},
    {"frames": [-1]},
    {"frames": "12"},
    {"frames": [1 << 60]},
    {"tail": 5},
    {"tail": "zz"},
    {"bases": ["ab" * 32]},
]


@pytest.mark.parametrize("change", HEADERS, ids=str)
def test_an_object_header_of_another_shape_is_damage(tmp_path, change):
    pack = handmade.pack([(CONFIG, 0, handmade.object_frames(CONFIG, 0, changes=change))])
    manifest = handmade.manifest([handmade.described("config.json", [CONFIG])])
    archive = build(tmp_path / "archive", manifest, [pack])
    result = decode(archive, "restore", "Org/Model", tmp_path / "out")
    assert result.returncode == 20
    assert "Traceback" not in result.stderr
    assert tree(tmp_path / "out") == {}


@every_backend
@pytest.mark.parametrize("told", [True, False])
def test_a_frame_that_swells_is_refused(tmp_path, backend, told):
    compressor = zstandard.ZstdCompressor(write_content_size=told)
    bomb = compressor.compress(bytes(200_000_000))
    header = {"blake3": handmade.digest(CONFIG), "codec": 0, "size": len(CONFIG)}
    frames = handmade.skippable(1, handmade.canonical(header | {"frames": [len(bomb)]})) + bomb
    pack = handmade.pack([(CONFIG, 0, frames)])
    manifest = handmade.manifest([handmade.described("config.json", [CONFIG])])
    archive = build(tmp_path / "archive", manifest, [pack])
    result = decode(archive, "restore", "Org/Model", tmp_path / "out", backend=backend)
    assert result.returncode == 20
    assert tree(tmp_path / "out") == {}


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"format": 2, "features": 7},
        {"features": {"read": ["new"], "write": []}},
    ],
)
def test_an_unknown_format_is_left_alone(archive, tmp_path, change):
    handmade.write_identity(archive, **change)
    for command in (["list"], ["verify"], ["restore", "Org/Model", tmp_path / "out"]):
        result = decode(archive, *command)
        assert (result.returncode, result.stdout) == (10, "")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("change", [{"format": 2}, {"features": {"read": ["new"], "write": []}}])
def test_a_seal_that_is_not_understood_is_passed_over(archive, tmp_path, change):
    """What archive.json says concerns all, what a seal says that snapshot: section 2.3."""
    later = "2030-01-01T00:00:00Z"
    name = handmade.write_snapshot(archive, MANIFEST, PACKS, sealed=later, **change)
    result = decode(archive, "list")
    assert result.returncode == 10
    assert name in result.stderr
    assert len(result.stdout.splitlines()) == 1
    result = decode(archive, "restore", "Org/Model", tmp_path / "out")
    assert (result.returncode, tree(tmp_path / "out")) == (0, EXPECTED)
    assert decode(archive, "restore", f"Org/Model@{name[:8]}", tmp_path / "no").returncode == 10


def test_a_pack_that_is_not_understood_is_passed_over(archive, tmp_path):
    head = PACKS[1].index(b'"format":1')
    changed = PACKS[1][: head + 9] + b"2" + PACKS[1][head + 10 :]
    pack_path(archive, PACKS[1]).unlink()
    other = handmade.write_pack(archive, changed)
    handmade.write_snapshot(archive, MANIFEST, [PACKS[0], changed], sealed="2030-01-01T00:00:00Z")
    result = decode(archive, "restore", "Org/Model", tmp_path / "half")
    assert result.returncode == 20
    assert set(tree(tmp_path / "half")) == {"config.json", "empty"}
    assert f"passed over: {other}" in result.stderr
    handmade.write_pack(archive, handmade.pack([stored(part, 0) for part in PARTS[2:]]))
    result = decode(archive, "restore", "Org/Model", tmp_path / "out")
    assert (result.returncode, tree(tmp_path / "out")) == (0, EXPECTED)


def test_a_directory_that_is_no_archive(tmp_path):
    shutil.copy(CARRIED / "decode.py", tmp_path)
    assert decode(tmp_path, "list").returncode == 10


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_a_destination_in_use_is_left_alone(archive, tmp_path, kind):
    out = tmp_path / "out"
    if kind == "folder":
        out.mkdir()
        (out / "config.json").write_bytes(b"mine")
    elif kind == "file":
        out.write_bytes(b"mine")
    else:
        out.symlink_to(tmp_path / "nowhere")
    before = tree(tmp_path)
    assert decode(archive, "restore", "Org/Model", out).returncode == 2
    assert tree(tmp_path) == before


@pytest.mark.parametrize("arguments", [[], ["restore"], ["restore", "a"], ["verify", "a", "b"]])
def test_wrong_usage(archive, arguments):
    assert decode(archive, *arguments).returncode == 2


# What it is made of


def test_it_imports_only_the_standard_library():
    source = (CARRIED / "decode.py").read_text()
    parsed = ast.parse(source, feature_version=(3, 8))
    names = set()
    for node in ast.walk(parsed):
        if isinstance(node, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").partition(".")[0])
    assert names <= sys.stdlib_module_names
    dynamic = re.findall(r"import_module\((.*?)\)|optional\((.*?)\)", source)
    assert {first or second for first, second in dynamic} == {"name", "name: str", '"blake3"'}
    assert all(f'"{name}"' in source for name in OPTIONAL)


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 1023, 1024, 1025, 2048, 2049, 7168, 70001])
def test_blake3_in_python_alone(module, size):
    data = random.Random(size).randbytes(size)
    assert module.blake3_python(data) == blake3.blake3(data).hexdigest()


def test_blake3_in_python_alone_over_more_than_one_round_of_lanes(module):
    data = random.Random(1).randbytes((1 << 20) + 4097)
    assert module.blake3_python(data) == blake3.blake3(data).hexdigest()


def by_hand() -> tuple[dict[str, str], str]:
    """The commands of README.txt by their beginnings, and its program."""
    page = (CARRIED / "README.txt").read_text()
    lines = [line.strip() for line in page.splitlines() if line.startswith("       ")]
    beginnings = ("SIZE=", "INDEX=", "tail -c +$((INDEX", "LC_ALL=C grep", "tail -c +$((OFFSET")
    commands = {start: next(x for x in lines if x.startswith(start)) for start in beginnings}
    start = page.index("       import sys")
    program = page[start : page.index("\n\n", start)]
    return commands, "\n".join(line[7:] for line in program.splitlines())


@needs_zstd
@pytest.mark.parametrize("full", [True, False])
def test_the_page_restores_by_hand(tmp_path, full):
    """README.txt, its commands and its program as they stand there, for every codec."""
    commands, program = by_hand()
    find_size, find_index, show_index, show_headers, cut = commands.values()
    parts = [(CONFIG, 0), *((part, codec) for codec in range(6) for part in (PARTS[1], PARTS[2]))]
    pack = handmade.pack([stored(*part) for part in parts], full=full)
    path = tmp_path / "a.pack"
    path.write_bytes(pack)

    def shell(*lines: str) -> bytes:
        script = "\n".join((f"PACK={path}", *lines))
        command = ["sh", "-c", script]
        return subprocess.run(command, check=True, capture_output=True, cwd=tmp_path).stdout

    rows = json.loads(shell(find_size, find_index, show_index))["objects"]
    offsets = [int(line.split(b":")[0]) - 8 for line in shell(show_headers).splitlines()]
    assert offsets == [row[1] for row in rows]
    for row, (plain, codec) in zip(rows, parts, strict=True):
        name, offset, length, size = row[:4]
        shell(cut.replace("OFFSET", str(offset)).replace("STORED", str(length)))
        assert name == handmade.digest(plain)
        header = pack[
            offset + 8 : offset + 8 + int.from_bytes(pack[offset + 4 : offset + 8], "little")
        ]
        told = json.loads(header)
        emax, tail = (row[6] or 0, row[7]) if full else (told.get("emax", 0), told.get("tail", ""))
        run = [sys.executable, "-c", program, str(codec), str(size), str(emax), tail]
        made = subprocess.run(run, check=True, capture_output=True, cwd=tmp_path).stdout
        assert made == plain, codec


def test_the_page_says_what_is_where_and_needs_no_more_lines_than_a_page():
    page = (CARRIED / "README.txt").read_text()
    _, program = by_hand()
    assert len(program.splitlines()) <= 27
    for name in ("snapshots/", "manifests/", "packs/", "journal/", "parity/", "signatures/"):
        assert f"    {name}" in page
    assert max(map(len, page.splitlines())) <= 106
