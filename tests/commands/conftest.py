from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

import pytest

from archiver.cli.main import invoke
from archiver.tensors.writer import header_bytes

ROWS, COLUMNS = 20, 1 << 19
"""A BF16 tensor of 20 rows of 1 MiB: a segment of 16 MiB holds 16 rows."""
HOSTILE = "evil\x1b[31m\u202e"


class Result(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def records(self):
        return [json.loads(line) for line in self.out.splitlines()]

    def kinds(self, kind):
        return [record for record in self.records if record["kind"] == kind]


def noise(seed, size):
    """Bytes of no pattern in 1 KiB, and of the same 1 KiB over and over: quick to make and to store."""
    block = b"".join(hashlib.sha256(b"%d %d" % (seed, at)).digest() for at in range(32))
    return (block * (size // len(block) + 1))[:size]


def write_tensors(path, tensors):
    """A safetensors file of (name, dtype, shape, bytes)."""
    head = header_bytes([(name, dtype, shape, len(data)) for name, dtype, shape, data in tensors])
    path.write_bytes(head + b"".join(data for *_, data in tensors))


BIG = ("big", "BF16", [ROWS, COLUMNS], noise(1, ROWS * COLUMNS * 2))
OLD = ("small", "F32", [2, 3], noise(2, 24))
CAST = ("cast", "F32", [4], noise(3, 16))
GONE = ("gone", "U8", [5], noise(4, 5))
ODD = (HOSTILE, "U8", [2], noise(5, 2))
EMPTY = ("empty", "F32", [0, 7], b"")


def write_first(folder):
    folder.mkdir()
    write_tensors(folder / "one.safetensors", [BIG, EMPTY, OLD, CAST])
    write_tensors(folder / "two.safetensors", [GONE, ODD])
    (folder / "config.json").write_text("{}")
    (folder / "old.txt").write_text("old")
    (folder / "sub").mkdir()
    (folder / "sub/note.txt").write_text("note")
    (folder / "nothing").write_bytes(b"")
    return folder


def write_second(folder):
    """The same model with one tensor of each fate, and files too."""
    folder.mkdir()
    write_tensors(folder / "one.safetensors", [("small", "F32", [2, 3], noise(9, 24)), EMPTY])
    new = ("new", "I64", [1], noise(6, 8))
    cast = ("cast", "BF16", [2, 4], noise(3, 16))
    write_tensors(folder / "two.safetensors", [new, ODD, BIG, cast])
    (folder / "config.json").write_text("{ }")
    (folder / "new.txt").write_text("new")
    (folder / "sub").mkdir()
    (folder / "sub/note.txt").write_text("note")
    (folder / "nothing").write_bytes(b"")
    return folder


class Small(NamedTuple):
    """A small archive of two revisions of one repository, and the folders they came from."""

    archive: Path
    first: Path
    second: Path
    revisions: tuple[str, str]

    def reference(self, which):
        return f"me/Model@{self.revisions[which][:10]}"


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    from archiver.archive.archive import Archive

    root = tmp_path_factory.mktemp("commands")
    archive = root / "weights"
    assert invoke(["init", "-q", "-C", str(archive)]) == 0
    revisions = []
    folders = (write_first(root / "first"), write_second(root / "second"))
    for folder in folders:
        args = ["import", "-q", "-C", str(archive), str(folder), "--as", "me/Model"]
        assert invoke([*args, "--effort", "fast"]) == 0
        found = {one.seal.revision for one in Archive.open(archive).snapshots()}
        revisions += found - set(revisions)
    return Small(archive, *folders, tuple(revisions))


@pytest.fixture
def run(capfd, small):
    """Run a command on the small archive, in this process; ``archive=None`` names none."""

    def call(*args, archive=small.archive):
        capfd.readouterr()
        where = [] if archive is None else ["-C", str(archive)]
        code = invoke([*where, *map(str, args)])
        return Result(code, *capfd.readouterr())

    return call


@pytest.fixture
def exported(run, small, tmp_path):
    """The manifest of the first revision as a file."""
    target = tmp_path / "first.manifest.json"
    assert run("manifest", "export", small.reference(0), "-o", target).code == 0
    return target
