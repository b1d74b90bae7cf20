"""A safetensors header: which bytes of a file are which tensor (docs/format.md section 5.1).

The header comes from upstream and is hostile until proven otherwise: its time and memory are
bounded by its length, its length is bounded, and every offset is checked against the file.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import msgspec

from archiver.tensors.dtypes import BITS
from archiver.tensors.scan import (
    MAX_INTEGER,
    HeaderBoundError,
    HeaderError,
    Scanner,
    check_text,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

LENGTH_BYTES = 8
"""How many bytes at the beginning of a file hold the length of the JSON."""
MAX_LENGTH = 100_000_000
"""The longest JSON, in bytes, that is accepted: the library's own limit."""
MAX_TENSORS = 320_000
"""Tensors of a header, as of a whole manifest;"""
MAX_WEIGHT = 48 << 20
"""and what they take in it, in bytes, as far as that can be told."""
METADATA_MAX = 4 << 20
"""Of the metadata so much is kept, in bytes."""
MAX_RANK = 64
"""Dimensions that a tensor may have."""

_METADATA = "__metadata__"
_OFFSETS = 2
_RECORD_BYTES = 60
_NUMBER_BYTES = 4
_LIBRARY_COUNT = 2**64 - 1

Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_INTEGER)]
"""A number in a stored document: what canonical JSON holds, and not negative."""

__all__ = [
    "LENGTH_BYTES",
    "MAX_LENGTH",
    "Count",
    "Header",
    "HeaderBoundError",
    "HeaderError",
    "Tensor",
    "header_size",
    "parse_header",
]


class Tensor(msgspec.Struct, frozen=True, gc=False):
    """One tensor. ``begin`` and ``end`` are offsets in the file, not in its data."""

    name: str
    dtype: str
    shape: Annotated[tuple[Count, ...], msgspec.Meta(max_length=MAX_RANK)]
    begin: Count
    end: Count


class Header(msgspec.Struct, frozen=True, gc=False):
    """An accepted header.

    Attributes:
        size: Bytes from the beginning of the file to the end of the header.
        tensors: In file order; they tile the file from ``size`` to its end.
        metadata: What ``__metadata__`` holds; empty if it is not there.
    """

    size: int
    tensors: tuple[Tensor, ...]
    metadata: dict[str, str]


def header_size(first: bytes | memoryview, file_size: int) -> int:
    """The bytes of the header, its length field included, as the first 8 bytes of the file say.

    Raises:
        HeaderError: The length is out of bounds or goes beyond the file.
    """
    length = int.from_bytes(first[:LENGTH_BYTES], "little")
    if len(first) < LENGTH_BYTES or LENGTH_BYTES + length > file_size:
        raise HeaderError("The header goes beyond the end of the file.")
    if not len("{}") <= length <= MAX_LENGTH:
        raise HeaderError(f"The header's length of {length:,} bytes is out of bounds.")
    return LENGTH_BYTES + length


def parse_header(raw: bytes | memoryview, file_size: int) -> Header:
    """The header of a safetensors file.

    Args:
        raw: The beginning of the file, at least up to the end of the header.
        file_size: The bytes of the whole file.

    Raises:
        HeaderError: The header is not one that section 5.1 accepts, and why. HeaderBoundError if that
            says nothing of whether a library loads it.
    """
    size = header_size(raw, file_size)
    if len(raw) < size:
        raise HeaderError("The header is cut off.")
    text = memoryview(raw)[LENGTH_BYTES:size]
    check_text(text)
    tensors, metadata = _read(text, size)
    tensors.sort(key=_place)
    _check_tiling(tensors, size, file_size)
    return Header(size, tuple(tensors), metadata)


def _read(text: memoryview, base: int) -> tuple[list[Tensor], dict[str, str]]:
    scanner = Scanner(text)
    metadata: dict[str, str] | None = None
    tensors: dict[str, Tensor] = {}
    weight = 0
    for name in scanner.members():
        if name == _METADATA:
            if metadata is not None:
                raise HeaderError(f"The key {_METADATA!r} occurs twice.")
            metadata = {} if scanner.null() else _metadata(scanner)
            continue
        tensor = tensors[name] = _tensor(name, *scanner.record(), base)
        weight += _RECORD_BYTES + len(name) + len(tensor.dtype) + _NUMBER_BYTES * len(tensor.shape)
        # Before the next is made: there may be a million, and six such headers at once.
        if len(tensors) > MAX_TENSORS or weight > MAX_WEIGHT:
            raise HeaderBoundError(
                f"The header lists more than {MAX_TENSORS:,} tensors, or takes too much to be listed."
            )
    scanner.end()
    return list(tensors.values()), metadata or {}


def _metadata(scanner: Scanner) -> dict[str, str]:
    """The metadata; of much only the beginning, which is enough for whoever asks for a key."""
    found: dict[str, str] = {}
    room = METADATA_MAX
    for key in scanner.members():
        value = scanner.string()
        room -= len(key) + len(value) + _RECORD_BYTES
        if room > 0:
            found[key] = value
    return found


def _tensor(
    name: str, dtype: str, shape: tuple[int, ...], offsets: Sequence[int], base: int
) -> Tensor:
    if len(offsets) != _OFFSETS or offsets[0] > offsets[1]:
        raise HeaderError(f"The offsets of {name[:200]!r} are not a begin and an end.")
    begin, end = offsets
    bits = BITS.get(dtype)
    if bits is not None and _bits(name, shape, bits) != (end - begin) * 8:
        raise HeaderError(f"The tensor {name[:200]!r} has not the bytes that its shape takes.")
    if len(shape) > MAX_RANK:
        raise HeaderBoundError(f"The tensor {name[:200]!r} has more than {MAX_RANK} dimensions.")
    # one string for all tensors of a dtype: there may be hundreds of thousands
    return Tensor(name, sys.intern(dtype), shape, base + begin, base + end)


def _bits(name: str, shape: tuple[int, ...], width: int) -> int:
    """The bits of a tensor, counted as the library does: what overflows on the way is refused."""
    count = 1
    for dimension in (*shape, width):
        count *= dimension
        if count > _LIBRARY_COUNT:
            raise HeaderError(f"The tensor {name[:200]!r} is larger than any file.")
    return count


def _place(tensor: Tensor) -> tuple[int, int, str]:
    return tensor.begin, tensor.end, tensor.name


def _check_tiling(tensors: list[Tensor], begin: int, file_size: int) -> None:
    at = begin
    for tensor in tensors:
        if tensor.begin != at:
            fault = "overlaps another" if tensor.begin < at else "leaves a hole before it"
            raise HeaderError(f"The tensor {tensor.name[:200]!r} {fault}.")
        at = tensor.end
    if at != file_size:
        raise HeaderError(f"The tensors end at byte {at:,}, the file at {file_size:,}.")
