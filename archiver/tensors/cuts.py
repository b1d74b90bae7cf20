"""Where a file is cut into segments (docs/format.md section 5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from archiver.tensors.header import LENGTH_BYTES, Header, HeaderError, header_size, parse_header

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.tensors.weight_files import Container

SEGMENT_MAX = 16 << 20
"""The most bytes of a segment: what ``codec.segment`` takes as one object."""


class Piece(msgspec.Struct, frozen=True, gc=False):
    """A stretch of a file that is cut from its own beginning: a header, a tensor, a gap, or the file.

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
    at = header.size
    for tensor in header.tensors:
        if at < tensor.begin:
            yield Piece(at, tensor.begin, None)
        if tensor.begin < tensor.end:
            yield Piece(tensor.begin, tensor.end, tensor.dtype)
        at = tensor.end
    if at < file_size:
        yield Piece(at, file_size, None)


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

    Feed it the first ``needed`` bytes until it is ``decided``; for a file that is no container of tensors
    it is decided at once. A header that is not accepted is never an error.

    Args:
        file_size: The bytes of the whole file.
        container: What the file is by its name (``weight_files.container_of``).

    Attributes:
        header: The header, once it is accepted.
        container: What it is the header of; None where there is none.
        reason: Why a file is cut plainly in spite of its name, as one sentence; empty if it is not.
        needed: How many bytes from the beginning of the file must be fed before ``cuts`` is called. It
            grows as more is known: 8 for a safetensors file, then 8 plus the length that they declare if
            that may be accepted; for a GGUF file at first 65,536, then twice as many each time, up to the
            longest header, or as many as its header is known to need; never more than the file has. 0 for
            any other file, and for one that is shorter than a header's first field.
    """

    def __init__(self, file_size: int, container: Container | None) -> None:
        self._file_size = file_size
        self._decided = container is None
        self.header: Header | None = None
        self.container = container
        self.reason = ""
        self.needed = 0
        if container == "safetensors":
            self.needed = LENGTH_BYTES
        elif container == "gguf":
            # Few files are of this kind, and who reads none need not wait for it.
            from archiver.tensors.gguf import FIRST_BYTES  # noqa: PLC0415

            self.needed = min(FIRST_BYTES, file_size)
        if container and file_size < LENGTH_BYTES:
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
            if self.container == "gguf":
                self._feed_gguf(prefix)
            else:
                self._feed_safetensors(prefix)
        except HeaderError as error:
            self._cut_plainly(str(error))

    def _feed_safetensors(self, prefix: bytes | memoryview) -> None:
        self.needed = header_size(prefix, self._file_size)
        if len(prefix) >= self.needed:
            self.header = parse_header(prefix, self._file_size)
            self._decided = True

    def _feed_gguf(self, prefix: bytes | memoryview) -> None:
        from archiver.tensors.gguf import ShortHeaderError, next_size, parse_gguf  # noqa: PLC0415

        try:
            self.header = parse_gguf(prefix, self._file_size)
        except ShortHeaderError as error:
            self.needed = next_size(error, len(prefix), self._file_size)
        else:
            self._decided = True

    def cuts(self) -> Iterator[Segment]:
        """Return the segments of the file; raise ValueError before the planner is decided."""
        if not self._decided:
            raise ValueError(f"The first {self.needed} bytes are needed to plan the cuts.")
        return plan_cuts(self._file_size, self.header)

    def _cut_plainly(self, reason: str) -> None:
        self.reason = reason
        self.container = None
        self._decided = True
