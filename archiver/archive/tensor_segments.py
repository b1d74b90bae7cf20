"""Which segments of a file are which tensor."""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.archive.records import FileEntry
    from archiver.tensors.header import Tensor

Segments = tuple[tuple[int, str], ...]
"""(size in bytes, BLAKE3) of each segment, in order."""


def tensors_of(entry: FileEntry) -> tuple[Tensor, ...]:
    """The tensors of a file; none if it is not an accepted safetensors file."""
    return () if isinstance(entry.tensors, msgspec.UnsetType) else entry.tensors


def tensor_segments(entry: FileEntry) -> Iterator[tuple[Tensor, Segments]]:
    """Each tensor of a file with its segments; a tensor of no bytes has none."""
    starts = list(accumulate((size for size, _ in entry.segments), initial=0))
    for tensor in tensors_of(entry):
        first, end = bisect_left(starts, tensor.begin), bisect_left(starts, tensor.end)
        yield tensor, entry.segments[first:end]
