"""Plain bytes <-> byte streams: the five codecs of format 1, without their compression.

Format: ``docs/format.md``, section 4. ``split`` takes whole words only; the caller keeps the tail.
Streams lie in the thread's workspace and are valid until its next use.

A *half* is a 16-bit word, or the upper 16 bits of a 32-bit word; the functions on halves take arrays
of one length, at most ``buffers.BLOCK``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np

from archiver.buffers import BLOCK, Words16, Workspace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.buffers import Bytes


_CLIPPED = 63 << 2
"""First value of A that marks a clipped word."""


class Transform(Protocol):
    """One codec's reversible rearrangement of bytes."""

    number: ClassVar[int]
    name: ClassVar[str]
    word: ClassVar[int]
    """Bytes per word."""
    streams: ClassVar[int]
    """Byte streams, and so Zstandard frames, per object."""
    exponent_stream: ClassVar[int | None]
    """Which stream holds clipped exponents and so has a length of its own; None if none does."""

    def split(self, plain: Bytes, work: Workspace) -> tuple[list[Bytes], int | None]:
        """Return the streams of ``plain`` and, for the joint split, ``emax``."""

    def merge(self, streams: list[Bytes], emax: int, out: Bytes, work: Workspace) -> None:
        """Undo ``split`` into ``out``; raise ValueError if the streams contradict each other."""


# --- 16-bit halves, block by block


def _rotate(words: Words16, high: Bytes, low: Bytes, work: Workspace) -> None:
    """Split words rotated left by one bit into their high and low bytes."""
    left, right = work.first[: len(words)], work.second[: len(words)]
    np.left_shift(words, 1, out=left)
    np.right_shift(words, 15, out=right)
    np.bitwise_or(left, right, out=left)
    np.copyto(low, left, casting="unsafe")
    np.right_shift(words, 7, out=right)
    np.copyto(high, right, casting="unsafe")


def _unrotate(high: Bytes, low: Bytes, words: Words16, work: Workspace) -> None:
    """Undo ``_rotate``."""
    top, bottom = work.first[: len(words)], work.second[: len(words)]
    np.copyto(top, high)
    np.left_shift(top, 7, out=top)
    np.copyto(bottom, low)
    np.right_shift(bottom, 1, out=words)
    np.bitwise_or(words, top, out=words)
    np.left_shift(bottom, 15, out=bottom)
    np.bitwise_or(words, bottom, out=words)


def _exponent_max(words: Words16, work: Workspace) -> int:
    """Return the greatest BF16 exponent (0 to 255) among ``words``."""
    plain = work.first[: len(words)]
    np.bitwise_and(words, 0x7F80, out=plain)
    return int(plain.max()) >> 7


def _join(words: Words16, emax: int, first: Bytes, second: Bytes, work: Workspace) -> bytes:
    """Split BF16 words into A and B, and return the exponents of the clipped words, in order."""
    a, b = work.first[: len(words)], work.second[: len(words)]
    np.right_shift(words, 5, out=a)
    np.bitwise_and(a, 0x3FF, out=a)
    np.bitwise_xor(a, 3, out=a)
    # Exponent and inverted mantissa head in one subtraction: the head comes out upright.
    np.subtract(np.uint16(emax << 2 | 3), a, out=a)
    exponents = _clip(words, a) if int(a.max()) >= _CLIPPED else b""
    np.copyto(first, a, casting="unsafe")
    np.right_shift(words, 10, out=b)
    np.bitwise_and(b, 32, out=b)
    np.bitwise_and(words, 31, out=a)
    np.bitwise_or(a, b, out=a)
    np.copyto(second, a, casting="unsafe")
    return exponents


def _clip(words: Words16, a: Words16) -> bytes:
    clipped = a >= _CLIPPED
    exponents = (words[clipped] >> 7) & 0xFF
    a[clipped] = _CLIPPED | (a[clipped] & 3)
    return exponents.astype(np.uint8).tobytes()


def _unjoin(
    first: Bytes, second: Bytes, emax: int, exponents: Bytes, words: Words16, work: Workspace
) -> int:
    """Undo ``_join`` and return how many of the ``exponents`` were used.

    Raise ValueError if there are fewer of them than clipped words.
    """
    a, b = work.first[: len(words)], work.second[: len(words)]
    np.copyto(a, first)
    np.subtract(np.uint16(emax << 2 | 3), a, out=a)
    np.bitwise_xor(a, 3, out=a)
    np.left_shift(a, 5, out=a)
    used = _unclip(first, a, exponents) if int(first.max()) >= _CLIPPED else 0
    np.copyto(b, second)
    np.left_shift(b, 10, out=words)
    np.bitwise_or(words, b, out=words)
    np.bitwise_and(words, 0x801F, out=words)
    np.bitwise_or(words, a, out=words)
    return used


def _unclip(first: Bytes, a: Words16, exponents: Bytes) -> int:
    clipped = np.flatnonzero(first >= _CLIPPED)
    if len(clipped) > len(exponents):
        raise ValueError("fewer exponents are stored than words were clipped")
    upper = exponents[: len(clipped)].astype(np.uint16)
    a[clipped] = (upper << 7) | ((first[clipped].astype(np.uint16) & 3) << 5)
    return len(clipped)


# --- the codecs


def _blocks(count: int) -> Iterator[slice]:
    return (slice(start, min(start + BLOCK, count)) for start in range(0, count, BLOCK))


class Plain:
    """Codec 0: the bytes as they are."""

    number: ClassVar[int] = 0
    name: ClassVar[str] = "plain"
    word: ClassVar[int] = 1
    streams: ClassVar[int] = 1
    exponent_stream: ClassVar[int | None] = None

    def split(self, plain: Bytes, work: Workspace) -> tuple[list[Bytes], int | None]:
        """Return one stream: the bytes themselves."""
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
        """Return the block's halves; for 4-byte words also fills the two ``low`` streams."""
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
        """Return where the block's halves are to be put before ``_widen``."""
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

    exponent_stream: ClassVar[int | None] = None

    def split(self, plain: Bytes, work: Workspace) -> tuple[list[Bytes], int | None]:
        """Return high bytes, low bytes, and for 4-byte words the two lower bytes."""
        count = len(plain) // self.word
        streams = self._streams(count, work)
        for block in _blocks(count):
            half = self._half(plain, block, streams[2:], work)
            _rotate(half, streams[0][block], streams[1][block], work)
        return streams, None

    def merge(self, streams: list[Bytes], emax: int, out: Bytes, work: Workspace) -> None:
        """Undo ``split``."""
        del emax
        for block in _blocks(len(out) // self.word):
            half = self._place(out, block, work)
            _unrotate(streams[0][block], streams[1][block], half, work)
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

    exponent_stream: ClassVar[int | None] = 2

    def split(self, plain: Bytes, work: Workspace) -> tuple[list[Bytes], int | None]:
        """Return A, B, the clipped exponents, and for 4-byte words the two lower bytes."""
        count = len(plain) // self.word
        a, b, *low = self._streams(count, work)
        emax = self._emax(plain, count, work)
        exponents = []
        for block in _blocks(count):
            half = self._half(plain, block, low, work)
            exponents.append(_join(half, emax, a[block], b[block], work))
        clipped = np.frombuffer(b"".join(exponents), np.uint8)
        return [a, b, clipped, *low], emax

    def merge(self, streams: list[Bytes], emax: int, out: Bytes, work: Workspace) -> None:
        """Undo ``split``."""
        a, b, exponents, *low = streams
        for block in _blocks(len(out) // self.word):
            half = self._place(out, block, work)
            used = _unjoin(a[block], b[block], emax, exponents, half, work)
            exponents = exponents[used:]
            self._widen(out, block, low, work)
        if len(exponents):
            raise ValueError("more exponents are stored than words were clipped")

    def _emax(self, plain: Bytes, count: int, work: Workspace) -> int:
        upper = plain.view(np.uint16)[self.word // 2 - 1 :: self.word // 2]
        maxima = (_exponent_max(upper[block], work) for block in _blocks(count))
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
