"""Which tensors, and which of their rows, lie in a stretch of a file."""

from __future__ import annotations

import math
from bisect import bisect_right
from itertools import takewhile
from operator import attrgetter
from typing import TYPE_CHECKING

import msgspec

from archiver.archive.finding import TensorRows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.archive.records import FileEntry
    from archiver.tensors.header import Tensor


def affected_by_object(entry: FileEntry, digest: str) -> list[TensorRows]:
    """The tensor rows of a file that an object holds."""
    found: list[TensorRows] = []
    for begin, end in stretches(entry, digest):
        found += affected_rows(entry, begin, end)
    return found


def stretches(entry: FileEntry, digest: str) -> Iterator[tuple[int, int]]:
    """Begin and end, in bytes, of each segment of the file that is the object ``digest``."""
    at = 0
    for size, segment in entry.segments:
        if segment == digest:
            yield at, at + size
        at += size


def affected_rows(entry: FileEntry, begin: int, end: int) -> list[TensorRows]:
    """The tensor rows that lie in the bytes ``begin`` to ``end`` (not included) of a file."""
    if isinstance(entry.tensors, msgspec.UnsetType):
        return []
    # In file order, so that a lookup in a file of 30,000 tensors stays cheap.
    first = bisect_right(entry.tensors, begin, key=attrgetter("end"))
    within = takewhile(lambda tensor: tensor.begin < end, entry.tensors[first:])
    return [
        _rows(tensor, max(begin, tensor.begin), min(end, tensor.end))
        for tensor in within
        if tensor.begin < tensor.end
    ]


def _rows(tensor: Tensor, begin: int, end: int) -> TensorRows:
    if not tensor.shape or not math.prod(tensor.shape):
        return TensorRows(tensor.name, None, None)
    # Whole numbers: what a manifest claims can be more than a float holds.
    rows, size = tensor.shape[0], tensor.end - tensor.begin
    first = (begin - tensor.begin) * rows // size
    last = -(-(end - tensor.begin) * rows // size) - 1
    return TensorRows(tensor.name, first, last)
