"""A small model whose files are cut, refused and listed twice, and how its bytes are read."""

from __future__ import annotations

import numpy as np

from archiver.smoke.checkpoint.archived import ArchivedCheckpoint
from archiver.tensors.header import header_bytes

MIB = 1 << 20
ROWS = 20
"""Of 1 MiB: the first 16 lie in one segment, the others in a second one."""
FILE = "model.safetensors"


def noise(seed, size):
    return np.random.default_rng(seed).bytes(size)


def write_tensors(path, tensors):
    """A safetensors file of (name, dtype, shape, bytes)."""
    head = header_bytes([(name, dtype, shape, len(data)) for name, dtype, shape, data in tensors])
    path.write_bytes(head + b"".join(data for *_, data in tensors))


def write_model(folder):
    folder.mkdir()
    small = [(f"small.{number}", "U8", [4096], noise(number, 4096)) for number in range(12)]
    big = ("big", "U8", [ROWS, MIB], noise(99, ROWS * MIB))
    write_tensors(folder / FILE, [*small, big, ("empty", "F32", [0, 7], b"")])
    write_tensors(folder / "second.safetensors", [("small.0", "U8", [3], b"abc")])
    whole = header_bytes([("lost", "U8", [4], 4)]) + b"1234"
    (folder / "cut.safetensors").write_bytes(whole[:-1])
    (folder / "tiny.safetensors").write_bytes(b"abc")
    (folder / "config.json").write_text("{}")
    (folder / "nothing.txt").write_bytes(b"")
    (folder / "below").mkdir()
    (folder / "below/note.txt").write_text("note")
    return folder


def opened(archive, workers=2):
    return ArchivedCheckpoint(archive, next(archive.snapshots()), workers=workers)


def bytes_of(checkpoint, tensor):
    out = np.empty(tensor.size, np.uint8)
    checkpoint.read_tensor(tensor, out)
    return out.tobytes()
