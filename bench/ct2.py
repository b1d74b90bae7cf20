"""Reads a CTranslate2 ``model.bin``: which tensors it holds and where their bytes lie.

Little-endian. Version (u32), specification (string), revision (u32), number of variables (u32), then
for each: name (string), rank (u8), that many sizes (u32), type (u8), bytes (u32), data. A string is its
length with the closing NUL (u16) and its bytes. Aliases follow the last variable.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

FLOAT16 = 4


class Variable(NamedTuple):
    """One tensor of the file; ``begin`` and ``size`` in bytes."""

    name: str
    shape: tuple[int, ...]
    kind: int
    begin: int
    size: int


def variables(data: bytes) -> Iterator[Variable]:
    """The variables of a model, in file order."""
    at = 4
    _, at = _string(data, at)
    (count,) = struct.unpack_from("<I", data, at + 4)
    at += 8
    for _ in range(count):
        name, at = _string(data, at)
        rank = data[at]
        shape = struct.unpack_from(f"<{rank}I", data, at + 1)
        kind, size = struct.unpack_from("<BI", data, at + 1 + 4 * rank)
        at += 1 + 4 * rank + 5
        yield Variable(name, shape, kind, at, size)
        at += size


def _string(data: bytes, at: int) -> tuple[str, int]:
    (length,) = struct.unpack_from("<H", data, at)
    end = at + 2 + length
    return data[at + 2 : end].rstrip(b"\0").decode(), end
