"""Where a file is cut into segments (docs/format.md section 5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from archiver.tensors.header import LENGTH_BYTES, Header, HeaderError, header_size, parse_header

if TYPE_CHECKING:
    from collections.abc import Iterator

SEGMENT_MAX = 16 << 20
"""The most bytes of a segment: what ``codec.segment`` takes as one object."""


class Piece(msgspec.Struct, frozen=True, gc=False):
    """A stretch of a file that is cut from its own beginning: a header, a tensor, or the file.

    ``begin`` and ``end`` are offsets in the file; ``dtype`` is None where there is no tensor.
    """

    begin: int
    end: int
    dtype: str | None


class Segment(msgspec.Struct, frozen=True, gc=False):
    """Bytes of a file that are stored as one object: 1 to ``SEGMENT_MAX`` of them.

    ``begin`` is an offset in the file; ``dtype`` is None where there is no tensor.
    """

    begin: int
    size: int
    dtype: str | None


def pieces(file_size: int, header: Header | None) -> Iterator[Piece]:
    """Yield the stretches of a file of ``file_size`` bytes, in order and without gaps, none empty."""
    if header is None:
        if file_size:
            yield Piece(0, file_size, None)
        return
    yield Piece(0, header.size, None)
    for tensor in header.tensors:
        if tensor.begin < tensor.end:
            yield Piece(tensor.begin, tensor.end, tensor.dtype)


def plan_cuts(file_size: int, header: Header | None) -> Iterator[Segment]:
    """Yield the segments of a file, in order and without gaps.

    Args:
        file_size: The bytes of the file.
        header: Its accepted header, or None for any other file.
    """
    for piece in pieces(file_size, header):
        for begin in range(piece.begin, piece.end, SEGMENT_MAX):
            yield Segment(begin, min(SEGMENT_MAX, piece.end - begin), piece.dtype)


class CutPlanner:
    """Decides the cuts of one file while its first bytes arrive.

    Feed it the first ``needed`` bytes until it is ``decided``; for a file that is not named
    ``*.safetensors`` it is decided at once. A header that is not accepted is never an error.

    Args:
        file_size: The bytes of the whole file.
        safetensors: Whether the file's name ends with ``.safetensors``.

    Attributes:
        header: The header, once it is accepted.
        reason: Why a safetensors file is cut plainly, as one sentence; empty if it is not.
        needed: How many bytes from the beginning of the file must be fed before ``cuts`` is called:
            8 for a safetensors file, then 8 plus the length that they declare if that may be
            accepted; 0 for any other file, and for one of less than 8 bytes.
    """

    def __init__(self, file_size: int, *, safetensors: bool) -> None:
        self._file_size = file_size
        self._decided = not safetensors
        self.header: Header | None = None
        self.reason = ""
        self.needed = LENGTH_BYTES if safetensors else 0
        if safetensors and file_size < LENGTH_BYTES:
            self._cut_plainly("The file is too short for a header.")
            self.needed = 0

    @property
    def decided(self) -> bool:
        """Whether ``cuts`` may be called."""
        return self._decided

    def feed(self, prefix: bytes | memoryview) -> None:
        """Take the file's bytes so far, from its beginning; more than ``needed`` does no harm."""
        if self._decided or len(prefix) < self.needed:
            return
        try:
            self.needed = header_size(prefix, self._file_size)
            if len(prefix) >= self.needed:
                self.header = parse_header(prefix, self._file_size)
                self._decided = True
        except HeaderError as error:
            self._cut_plainly(str(error))

    def cuts(self) -> Iterator[Segment]:
        """Return the segments of the file; raise ValueError before the planner is decided."""
        if not self._decided:
            raise ValueError(f"The first {self.needed} bytes are needed to plan the cuts.")
        return plan_cuts(self._file_size, self.header)

    def _cut_plainly(self, reason: str) -> None:
        self.reason = reason
        self._decided = True
