"""A safetensors header: which bytes of a file are which tensor (docs/format.md section 5.1).

The header comes from upstream and is hostile until proven otherwise: its time and memory are
bounded by its length, its length is bounded, and every offset is checked against the file.
"""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Annotated

import msgspec

from archiver.tensors.dtypes import BITS
from archiver.tensors.scan import MAX_INTEGER, HeaderError, Scanner

if TYPE_CHECKING:
    from collections.abc import Sequence

LENGTH_BYTES = 8
"""How many bytes at the beginning of a file hold the length of the JSON."""
MAX_LENGTH = 67_108_864
"""The longest JSON, in bytes, that is accepted."""
MAX_RANK = 64
"""Dimensions that a tensor may have."""

_METADATA = "__metadata__"
_OFFSETS = 2

Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_INTEGER)]
"""A number in a stored document: what canonical JSON holds, and not negative."""

__all__ = [
    "LENGTH_BYTES",
    "MAX_LENGTH",
    "Count",
    "Header",
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
        HeaderError: The header is not one that section 5.1 accepts, and why.
    """
    size = header_size(raw, file_size)
    if len(raw) < size:
        raise HeaderError("The header is cut off.")
    tensors, metadata = _read(_decoded(memoryview(raw)[LENGTH_BYTES:size]), size)
    tensors.sort(key=_place)
    _check_tiling(tensors, size, file_size)
    return Header(size, tuple(tensors), metadata)


def _decoded(raw: memoryview) -> str:
    try:
        return str(raw, "utf-8")
    except UnicodeDecodeError:
        raise HeaderError("The header is not UTF-8.") from None


def _read(text: str, base: int) -> tuple[list[Tensor], dict[str, str]]:
    scanner = Scanner(text)
    metadata: dict[str, str] = {}
    tensors: list[Tensor] = []
    for name in scanner.members():
        if name == _METADATA:
            metadata = {key: scanner.string() for key in scanner.members()}
        else:
            tensors.append(_tensor(name, *scanner.record(), base))
    scanner.end()
    return tensors, metadata


def _tensor(
    name: str, dtype: str, shape: tuple[int, ...], offsets: Sequence[int], base: int
) -> Tensor:
    if len(offsets) != _OFFSETS or offsets[0] > offsets[1]:
        raise HeaderError(f"The offsets of {name[:200]!r} are not a begin and an end.")
    if len(shape) > MAX_RANK:
        raise HeaderError(f"The tensor {name[:200]!r} has more than {MAX_RANK} dimensions.")
    begin, end = offsets
    bits = BITS.get(dtype)
    if bits is not None and math.prod(shape) * bits != (end - begin) * 8:
        raise HeaderError(f"The tensor {name[:200]!r} has not the bytes that its shape takes.")
    # one string for all tensors of a dtype: there may be hundreds of thousands
    return Tensor(name, sys.intern(dtype), shape, base + begin, base + end)


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
