"""Plain bytes <-> byte streams: the five codecs of format 1, without their compression.

Format: ``docs/format.md``, section 4. ``split`` takes whole words only; the caller keeps the tail.
Streams lie in the thread's workspace and are valid until its next use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np

from archiver.codec import halves
from archiver.codec.workspace import BLOCK, Words16, Workspace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.codec.zstd import Bytes


class Transform(Protocol):
    """One codec's reversible rearrangement of bytes."""

    number: ClassVar[int]
    name: ClassVar[str]
    word: ClassVar[int]
    """Bytes per word."""
    streams: ClassVar[int]
    """Byte streams, and so Zstandard frames, per object."""
    aside: ClassVar[int | None]
    """Which stream holds clipped exponents and so has a length of its own; None if none does."""

    def split(self, plain: Bytes, work: Workspace) -> tuple[list[Bytes], int | None]:
        """The streams of ``plain`` and, for the joint split, ``emax``."""

    def merge(self, streams: list[Bytes], emax: int, out: Bytes, work: Workspace) -> None:
        """Undo ``split`` into ``out``; ValueError if the streams contradict each other."""


def _blocks(count: int) -> Iterator[slice]:
    return (slice(start, min(start + BLOCK, count)) for start in range(0, count, BLOCK))


class Plain:
    """Codec 0: the bytes as they are."""

    number: ClassVar[int] = 0
    name: ClassVar[str] = "plain"
    word: ClassVar[int] = 1
    streams: ClassVar[int] = 1
    aside: ClassVar[int | None] = None

    def split(self, plain: Bytes, work: Workspace) -> tuple[list[Bytes], int | None]:
        """One stream: the bytes themselves."""
        del work
        return [plain], None

    def merge(self, streams: list[Bytes], emax: int, out: Bytes, work: Workspace) -> None:
        """Copy the stream."""
        del emax, work
        np.copyto(out, streams[0])


class _Halves:
    """Access to the 16-bit halves of 2- or 4-byte words, and to the low bytes of the latter."""

    word: ClassVar[int]

    def _streams(self, count: int, work: Workspace) -> list[Bytes]:
        return [work.take(f"stream{i}", count) for i in range(self.word)]

    def _half(self, plain: Bytes, block: slice, low: list[Bytes], work: Workspace) -> Words16:
        """The block's halves; for 4-byte words also fills the two ``low`` streams."""
        if self.word == 2:  # noqa: PLR2004 - bytes per word, as in the table of codecs
            return plain.view(np.uint16)[block]
        words = plain.view(np.uint32)[block]
        half, wide = work.half[: len(words)], work.wide[: len(words)]
        np.copyto(low[1][block], words, casting="unsafe")
        np.right_shift(words, 8, out=wide)
        np.copyto(low[0][block], wide, casting="unsafe")
        np.right_shift(words, 16, out=wide)
        np.copyto(half, wide, casting="unsafe")
        return half

    def _place(self, out: Bytes, block: slice, work: Workspace) -> Words16:
        """Where the block's halves are to be put before ``_widen``."""
        if self.word == 2:  # noqa: PLR2004
            return out.view(np.uint16)[block]
        return work.half[: block.stop - block.start]

    def _widen(self, out: Bytes, block: slice, low: list[Bytes], work: Workspace) -> None:
        """Put halves and low bytes together; nothing to do for 2-byte words."""
        if self.word == 2:  # noqa: PLR2004
            return
        words = out.view(np.uint32)[block]
        wide = work.wide[: len(words)]
        np.copyto(words, work.half[: len(words)])
        np.left_shift(words, 16, out=words)
        np.copyto(wide, low[0][block])
        np.left_shift(wide, 8, out=wide)
        np.bitwise_or(words, wide, out=words)
        np.copyto(wide, low[1][block])
        np.bitwise_or(words, wide, out=words)


class _Planes(_Halves):
    """Rotated byte planes."""

    aside: ClassVar[int | None] = None

    def split(self, plain: Bytes, work: Workspace) -> tuple[list[Bytes], int | None]:
        """High bytes, low bytes, and for 4-byte words the two lower bytes."""
        count = len(plain) // self.word
        streams = self._streams(count, work)
        for block in _blocks(count):
            half = self._half(plain, block, streams[2:], work)
            halves.rotate(half, streams[0][block], streams[1][block], work)
        return streams, None

    def merge(self, streams: list[Bytes], emax: int, out: Bytes, work: Workspace) -> None:
        """Undo ``split``."""
        del emax
        for block in _blocks(len(out) // self.word):
            half = self._place(out, block, work)
            halves.unrotate(streams[0][block], streams[1][block], half, work)
            self._widen(out, block, streams[2:], work)


class Planes16(_Planes):
    """Codec 1."""

    number: ClassVar[int] = 1
    name: ClassVar[str] = "planes16"
    word: ClassVar[int] = 2
    streams: ClassVar[int] = 2


class Planes32(_Planes):
    """Codec 2."""

    number: ClassVar[int] = 2
    name: ClassVar[str] = "planes32"
    word: ClassVar[int] = 4
    streams: ClassVar[int] = 4


class _Joint(_Halves):
    """The joint split: exponent with the mantissa's head, sign with its rest."""

    aside: ClassVar[int | None] = 2

    def split(self, plain: Bytes, work: Workspace) -> tuple[list[Bytes], int | None]:
        """A, B, the clipped exponents, and for 4-byte words the two lower bytes."""
        count = len(plain) // self.word
        a, b, *low = self._streams(count, work)
        emax = self._emax(plain, count, work)
        aside = []
        for block in _blocks(count):
            half = self._half(plain, block, low, work)
            aside.append(halves.join(half, emax, a[block], b[block], work))
        clipped = np.frombuffer(b"".join(aside), np.uint8)
        return [a, b, clipped, *low], emax

    def merge(self, streams: list[Bytes], emax: int, out: Bytes, work: Workspace) -> None:
        """Undo ``split``."""
        a, b, aside, *low = streams
        for block in _blocks(len(out) // self.word):
            half = self._place(out, block, work)
            used = halves.unjoin(a[block], b[block], emax, aside, half, work)
            aside = aside[used:]
            self._widen(out, block, low, work)
        if len(aside):
            raise ValueError("more exponents were kept aside than words were clipped")

    def _emax(self, plain: Bytes, count: int, work: Workspace) -> int:
        upper = plain.view(np.uint16)[self.word // 2 - 1 :: self.word // 2]
        maxima = (halves.exponent_max(upper[block], work) for block in _blocks(count))
        return max(maxima, default=0)


class Joint16(_Joint):
    """Codec 3."""

    number: ClassVar[int] = 3
    name: ClassVar[str] = "joint16"
    word: ClassVar[int] = 2
    streams: ClassVar[int] = 3


class Joint32(_Joint):
    """Codec 4."""

    number: ClassVar[int] = 4
    name: ClassVar[str] = "joint32"
    word: ClassVar[int] = 4
    streams: ClassVar[int] = 5


CODECS: dict[int, Transform] = {
    transform.number: transform
    for transform in (Plain(), Planes16(), Planes32(), Joint16(), Joint32())
}
"""The closed registry. A number, once written, keeps its meaning for ever."""
