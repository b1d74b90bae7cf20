"""A reader in another language, written from docs/format.md alone, reads what the software writes."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from kit import handmade
from kit.cli import invoke

HERE = Path(__file__).parent
READER = HERE / "node" / "reader.mjs"
FROZEN = HERE / "v1"
NODE = shutil.which("node")

pytestmark = pytest.mark.skipif(
    (NODE is None or not (HERE / "node" / "node_modules").is_dir()) and not os.environ.get("CI"),
    reason="node, or what the reader needs, is not installed: make test installs both",
)


def reader(*words: object) -> subprocess.CompletedProcess[str]:
    command = [str(NODE), str(READER), *map(str, words)]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)


def tree(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


def test_all_vectors_hold():
    result = reader("vectors", HERE / "vectors.json", HERE / "vectors" / "edition-2.json")
    assert (result.returncode, result.stderr) == (0, "")


def test_the_frozen_archive_is_restored(tmp_path):
    result = reader("restore", FROZEN / "archive", tmp_path / "out")
    assert (result.returncode, result.stderr) == (0, "")
    seals = {path.name.split(".")[1]: path for path in FROZEN.glob("archive/snapshots/*/*/*.json")}
    assert {path.name for path in (tmp_path / "out").iterdir()} == seals.keys()
    first = next(id_ for id_, path in seals.items() if path.name.startswith("4683"))
    assert tree(tmp_path / "out" / first) == tree(FROZEN / "inputs" / "qwen" / "first")
    mixed = next(id_ for id_, path in seals.items() if path.parent.name == "mixed")
    inputs = tree(FROZEN / "inputs" / "mixed")
    assert tree(tmp_path / "out" / mixed).items() >= inputs.items()


@pytest.fixture
def archive(tmp_path) -> Path:
    """Two snapshots that the command line took in, of one repository."""
    root = tmp_path / "archive"
    assert invoke("init", "-q", "-C", root) == 0
    for number in (1, 2):
        folder = Path(shutil.copytree(FROZEN / "inputs", tmp_path / f"in{number}"))
        (folder / "odd\\name: ü.txt").write_bytes(b"%d" % number)
        words = ("--as", "Org/Model", "-C", root, "--min-free", "0B")
        assert invoke("import", "-q", folder, *words) == 0
    return root


def test_a_fresh_archive_is_restored(archive, tmp_path):
    result = reader("restore", archive, tmp_path / "out")
    assert (result.returncode, result.stderr) == (0, "")
    restored = [tree(folder) for folder in (tmp_path / "out").iterdir()]
    inputs = [tree(tmp_path / f"in{number}") for number in (1, 2)]
    assert sorted(map(str, restored)) == sorted(map(str, inputs))


def test_it_means_the_same_seal_as_decode_py(archive, tmp_path):
    import sys

    result = reader("choose", archive, "Org/Model")
    assert result.returncode == 0, result.stderr
    done = subprocess.run(
        [sys.executable, archive / "decode.py", "restore", "Org/Model", tmp_path / "out"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert f"id {result.stdout.strip()}" in done.stderr


def test_a_damaged_object_is_named_and_nothing_else_is_made_up(archive, tmp_path):
    for path in archive.glob("packs/*/*.pack"):
        data = bytearray(path.read_bytes())
        start = 8 + int.from_bytes(data[4:8], "little")
        header = start + 8 + int.from_bytes(data[start + 4 : start + 8], "little")
        data[header + 12] ^= 0x55  # within the frames of the first object
        path.chmod(0o644)
        path.write_bytes(data)
    result = reader("restore", archive, tmp_path / "out")
    assert result.returncode == 1
    assert result.stderr.startswith("reader: ")


def test_the_snapshot_of_the_page(tmp_path):
    import base64
    import json

    snapshot = json.loads((HERE / "vectors" / "edition-2.json").read_text())["snapshot"]
    root = tmp_path / "archive"
    handmade.write_pack(root, base64.b64decode(snapshot["pack"]))
    seal = snapshot["seal"].encode()
    (root / "snapshots").mkdir()
    name = f"{handmade.REVISION}.{handmade.digest(seal)}.json"
    (root / "snapshots" / name).write_bytes(seal)
    result = reader("restore", root, tmp_path / "out")
    assert (result.returncode, result.stderr) == (0, "")
    files = {path: bytes.fromhex(data) for path, data in snapshot["files"].items()}
    assert tree(tmp_path / "out" / handmade.digest(seal)) == files
