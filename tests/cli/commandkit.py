from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

from archiver.tensors.header import header_bytes

if TYPE_CHECKING:
    from pathlib import Path

ROWS, COLUMNS = 20, 1 << 19
"""A BF16 tensor of 20 rows of 1 MiB: a segment of 16 MiB holds 16 rows."""
HOSTILE = "evil\x1b[31m\u202e"


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
