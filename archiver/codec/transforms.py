"""Plain bytes <-> byte streams: the six codecs of format 1, without their compression.

Format: ``docs/format.md``, section 4. ``split`` takes whole words only; the caller keeps the tail. It gives
its streams a step at a time, and ``merge`` takes them so: what both work on stays in the core's cache.

A *half* is a 16-bit word, or the upper 16 bits of a 32-bit word; the functions on halves take arrays
of one length, at most ``buffers.BLOCK``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Final, Protocol

import numpy as np

from archiver.buffers import BLOCK, Words16, Words32, Workspace

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from archiver.buffers import Bytes


_CLIPPED_FROM: Final = 63
"""An exponent that is so far below ``emax``, or farther, is clipped."""
_CLIPPED: Final = _CLIPPED_FROM << 2
"""First value of A that marks a clipped word."""
_SIGN: Final = 1 << 15


class Widened(Protocol):
    """Bytes that are wanted as words, in order."""

    def widen(self, out: Words16 | Words32) -> None:
        """Put the next bytes into ``out``, at most ``BLOCK``, one into each word."""


class Stream(Widened, Protocol):
    """The bytes of a stream, in order."""

    left: int
    """How many were not taken yet."""

    def take(self, count: int) -> Bytes:
        """Return the next bytes, at most ``BLOCK``, valid until the next call."""

    def fill(self, out: Bytes) -> None:
        """Put the next bytes into ``out``."""


Sink = Callable[["Bytes"], object]
"""Takes the next bytes of a stream."""


class Transform(Protocol):
    """One codec's reversible rearrangement of bytes."""

    number: ClassVar[int]
    name: ClassVar[str]
    word: ClassVar[int]
    """Bytes per word."""
    step: ClassVar[int]
    """Words that are worked on at once, at most."""
    streams: ClassVar[int]
    """Byte streams, and so Zstandard frames, per object."""
    exponent_stream: ClassVar[int | None]
    """Which stream holds clipped exponents and so has a length of its own; None if none does."""
    packed_stream: ClassVar[int | None]
    """Which stream is packed, so that no coder makes it smaller; None if none is."""

    def length(self, stream: int, words: int) -> int:
        """Return the bytes of a stream of so many words; of clipped exponents, the most there can be."""

    def split(self, plain: Bytes, sinks: Sequence[Sink], work: Workspace) -> int | None:
        """Give each stream to its sink, in pieces that are valid during the call; return ``emax``."""

    def merge(
        self, streams: Sequence[Stream], emax: int, outs: Iterable[Bytes], work: Workspace
    ) -> Iterator[Bytes]:
        """Undo ``split`` into ``outs`` in turn, each of at most ``step`` words; yield each once filled.

        Raise ValueError if the streams contradict each other, or are damaged.
        """


# --- 16-bit halves, block by block


def _rotate(words: Words16, high: Bytes, low: Bytes, work: Workspace) -> None:
    """Split words rotated left by one bit into their high and low bytes."""
    np.right_shift(words, 7, out=high, casting="unsafe")
    # What is left of it is done on bytes: a pass over them costs half of one over words.
    sign = work.byte[: len(words)]
    np.copyto(low, words, casting="unsafe")
    np.less(words.view(np.int16), 0, out=sign.view(np.bool_))
    np.add(low, low, out=low)
    np.bitwise_or(low, sign, out=low)


def _unrotate(high: Widened, low: Widened, words: Words16, work: Workspace) -> None:
    """Undo ``_rotate``."""
    low.widen(words)
    # The lowest bit to bit 15, and the others to bits 8 to 14: an arithmetic shift then leaves the sign
    # where it is. numpy's shifts to the left are half as fast as its products.
    np.multiply(words, (1 << 15) + (1 << 7), out=words)
    signed = words.view(np.int16)
    np.right_shift(signed, 8, out=signed)
    np.bitwise_and(words, 0x807F, out=words)
    top = work.first[: len(words)]
    high.widen(top)
    np.multiply(top, 1 << 7, out=top)
    np.bitwise_or(words, top, out=words)


def _exponent_range(words: Words16, work: Workspace) -> tuple[int, int]:
    """Return the least and the greatest BF16 exponent (0 to 255) among ``words``."""
    if not words.flags.c_contiguous:
        halves = work.first[: len(words)]
        np.copyto(halves, words)
        words = halves
    # As signed numbers the positive words are the greatest and the negative ones the least; as unsigned
    # numbers it is the other way round. Four looks cost less than to shift the signs out.
    signed = words.view(np.int16)
    least = min(int(words.min()), int(signed.min()) + _SIGN)
    greatest = max(int(signed.max()), int(words.max()) - _SIGN)
    return least >> 7, greatest >> 7


def _exponent_and_head(words: Words16, emax: int, out: Bytes) -> None:
    """Put A of BF16 words into ``out``, right where no word is clipped: see ``_clip``."""
    np.right_shift(words, 5, out=out, casting="unsafe")
    # Exponent and inverted mantissa head in one subtraction: the head comes out upright. Of the
    # exponent two bits are gone, but the difference is below 64.
    np.bitwise_xor(out, 3, out=out)
    np.subtract(np.uint8((emax << 2 | 3) & 0xFF), out, out=out)


def _sign_and_rest(words: Words16, out: Bytes, work: Workspace) -> None:
    """Put B of BF16 words into ``out``."""
    sign = work.byte[: len(words)]
    np.copyto(out, words, casting="unsafe")
    np.bitwise_and(out, 31, out=out)
    # numpy's shifts of single bytes are six times slower than its products.
    np.less(words.view(np.int16), 0, out=sign.view(np.bool_))
    np.multiply(sign, 32, out=sign)
    np.bitwise_or(out, sign, out=out)


def _clip(words: Words16, emax: int, first: Bytes, work: Workspace) -> Bytes:
    """Mark the clipped words in A, and return their exponents, in order."""
    unsigned = work.first[: len(words)]
    np.left_shift(words, 1, out=unsigned)
    clipped = np.flatnonzero(unsigned < (emax - _CLIPPED_FROM + 1) << 8)
    first[clipped] = _CLIPPED | (words[clipped] >> 5 & 3)
    return (unsigned[clipped] >> 8).astype(np.uint8)


def _unjoin(
    first: Bytes, second: Widened, emax: int, exponents: Stream, words: Words16, work: Workspace
) -> None:
    """Put words together from A and B; the two upper bits of ``second`` do not matter.

    Raise ValueError if there are fewer ``exponents`` than clipped words, or an exponent below zero.
    """
    if emax < _CLIPPED_FROM - 1 and np.any((first > (emax << 2 | 3)) & (first < _CLIPPED)):
        raise ValueError("an exponent lies below zero")
    upper, head = work.first[: len(words)], work.byte[: len(words)]
    np.bitwise_xor(first, 3, out=head)
    np.copyto(upper, head)
    np.multiply(upper, 32, out=upper)
    np.subtract(np.uint16(emax << 7 | 3 << 5), upper, out=upper)
    if int(first.max()) >= _CLIPPED:
        _unclip(first, upper, exponents)
    second.widen(words)
    # The sign to bit 15 and a copy of the rest where it was.
    np.multiply(words, (1 << 10) + 1, out=words)
    np.bitwise_and(words, 0x801F, out=words)
    np.bitwise_or(words, upper, out=words)


def _require_all_used(exponents: Stream) -> None:
    if exponents.left:
        raise ValueError("more exponents are stored than words were clipped")


def _unclip(first: Bytes, upper: Words16, exponents: Stream) -> None:
    clipped = np.flatnonzero(first >= _CLIPPED)
    if len(clipped) > exponents.left:
        raise ValueError("fewer exponents are stored than words were clipped")
    own = exponents.take(len(clipped)).astype(np.uint16)
    upper[clipped] = (own << 7) | ((first[clipped].astype(np.uint16) & 3) << 5)


# --- values of six bits, four in three bytes


def _quarter(count: int) -> int:
    """Return how many bytes each third of the packed stream has for ``count`` values."""
    return -(-count // 4)


def _lend(values: Bytes, last: Bytes, third: int, work: Workspace) -> None:
    """Put two bits of each of ``last`` on top of the ``values`` of a third."""
    bits = work.byte[: len(values)]
    np.multiply(last, (1 << 6, 1 << 4, 1 << 2)[third], out=bits)
    np.bitwise_and(bits, 0xC0, out=bits)
    np.bitwise_or(values, bits, out=values)


class _Unpacked:
    """The values of a packed stream, in order, two bits above each of which do not matter.

    The last quarter is put together of what lies above the others, while these are taken.
    """

    def __init__(self, packed: Stream, work: Workspace) -> None:
        self._packed = packed
        self._work = work
        self._quarter = packed.left // 3
        self._last = work.take("quarter", self._quarter)
        self._at = 0

    def widen(self, out: Words16 | Words32) -> None:
        """Put the next values into ``out``."""
        done = 0
        while done < len(out):
            size = min(len(out) - done, self._quarter - self._at % self._quarter)
            np.copyto(out[done : done + size], self._take(size))
            done += size

    def _take(self, count: int) -> Bytes:
        """Return values of one quarter."""
        third, begin = divmod(self._at, self._quarter)
        self._at += count
        last = self._last[begin : begin + count]
        if third == 3:  # noqa: PLR2004 - the last of four
            return last
        values = self._packed.take(count)
        bits = self._work.byte[:count]
        padded = self._work.byte[: -(-count // 8) * 8]
        padded[count:] = 0  # what an earlier use left there would be shifted into the last byte
        np.bitwise_and(values, 0xC0, out=bits)
        # No bit crosses into another byte, so eight of them are shifted at once.
        eights = padded.view(np.uint64)
        np.right_shift(eights, (6, 4, 2)[third], out=eights)
        if third:
            np.bitwise_or(last, bits, out=last)
        else:
            np.copyto(last, bits)
        return values

    def finish(self) -> None:
        """Take what only fills the last word up."""
        while self._packed.left:
            self._packed.take(min(self._packed.left, BLOCK))


# --- the codecs


def _blocks(count: int, step: int = BLOCK) -> Iterator[slice]:
    return (slice(start, min(start + step, count)) for start in range(0, count, step))


class Plain:
    """Codec 0: the bytes as they are."""

    number: ClassVar[int] = 0
    name: ClassVar[str] = "plain"
    word: ClassVar[int] = 1
    step: ClassVar[int] = BLOCK
    streams: ClassVar[int] = 1
    exponent_stream: ClassVar[int | None] = None
    packed_stream: ClassVar[int | None] = None

    def length(self, stream: int, words: int) -> int:
        """Return ``words``: they are bytes."""
        del stream
        return words

    def split(self, plain: Bytes, sinks: Sequence[Sink], work: Workspace) -> int | None:
        """Give the bytes themselves."""
        del work
        sinks[0](plain)
        return None

    def merge(
        self, streams: Sequence[Stream], emax: int, outs: Iterable[Bytes], work: Workspace
    ) -> Iterator[Bytes]:
        """Copy the stream."""
        del emax, work
        for out in outs:
            streams[0].fill(out)
            yield out


class _Halves:
    """Access to the 16-bit halves of 2- or 4-byte words, and to the low bytes of the latter."""

    word: ClassVar[int]
    step: ClassVar[int] = BLOCK
    packed_stream: ClassVar[int | None] = None

    def length(self, stream: int, words: int) -> int:
        """Return ``words``: each stream has a byte of each."""
        del stream
        return words

    def _half(self, plain: Bytes, block: slice, low: Sequence[Sink], work: Workspace) -> Words16:
        """Return the block's halves; for 4-byte words also gives the two ``low`` streams."""
        if self.word == 2:  # noqa: PLR2004 - bytes per word, as in the table of codecs
            return plain.view(np.uint16)[block]
        words = plain.view(np.uint32)[block]
        half, wide = work.half[: len(words)], work.wide[: len(words)]
        piece = work.take("piece", self.step)[: len(words)]
        np.copyto(piece, words, casting="unsafe")
        low[1](piece)
        np.right_shift(words, 8, out=wide)
        np.copyto(piece, wide, casting="unsafe")
        low[0](piece)
        np.right_shift(words, 16, out=wide)
        np.copyto(half, wide, casting="unsafe")
        return half

    def _place(self, out: Bytes, work: Workspace) -> Words16:
        """Return where the halves of ``out`` are to be put before ``_widen``."""
        if self.word == 2:  # noqa: PLR2004
            return out.view(np.uint16)
        return work.half[: len(out) // 4]

    def _widen(self, out: Bytes, low: Sequence[Stream], work: Workspace) -> None:
        """Put halves and low bytes together; nothing to do for 2-byte words."""
        if self.word == 2:  # noqa: PLR2004
            return
        words = out.view(np.uint32)
        wide = work.wide[: len(words)]
        np.copyto(words, work.half[: len(words)])
        np.left_shift(words, 16, out=words)
        low[0].widen(wide)
        np.left_shift(wide, 8, out=wide)
        np.bitwise_or(words, wide, out=words)
        low[1].widen(wide)
        np.bitwise_or(words, wide, out=words)


class _Planes(_Halves):
    """Rotated byte planes."""

    exponent_stream: ClassVar[int | None] = None

    def split(self, plain: Bytes, sinks: Sequence[Sink], work: Workspace) -> int | None:
        """Give high bytes, low bytes, and for 4-byte words the two lower bytes."""
        for block in _blocks(len(plain) // self.word, self.step):
            half = self._half(plain, block, sinks[2:], work)
            high, low = (work.take(name, self.step)[: len(half)] for name in ("a", "b"))
            _rotate(half, high, low, work)
            sinks[0](high)
            sinks[1](low)
        return None

    def merge(
        self, streams: Sequence[Stream], emax: int, outs: Iterable[Bytes], work: Workspace
    ) -> Iterator[Bytes]:
        """Undo ``split``."""
        del emax
        high, low, *lower = streams
        for out in outs:
            half = self._place(out, work)
            _unrotate(high, low, half, work)
            self._widen(out, lower, work)
            yield out


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
    step: ClassVar[int] = BLOCK // 2
    streams: ClassVar[int] = 4


class _Joint(_Halves):
    """The joint split: exponent with the mantissa's head, sign with its rest."""

    exponent_stream: ClassVar[int | None] = 2

    def split(self, plain: Bytes, sinks: Sequence[Sink], work: Workspace) -> int | None:
        """Give A, B, the clipped exponents, and for 4-byte words the two lower bytes."""
        count = len(plain) // self.word
        upper = plain.view(np.uint16)[self.word // 2 - 1 :: self.word // 2]
        ranges = self._exponent_ranges(upper, work)
        emax = max((greatest for _, greatest in ranges), default=0)
        for block, (least, _) in zip(_blocks(count, self.step), ranges, strict=True):
            half = self._half(plain, block, sinks[3:], work)
            self._give_first(half, (least, emax), sinks, work)
            b = work.take("b", BLOCK)[: len(half)]
            _sign_and_rest(half, b, work)
            sinks[1](b)
        return emax

    @staticmethod
    def _give_first(
        half: Words16, least_and_emax: tuple[int, int], sinks: Sequence[Sink], work: Workspace
    ) -> None:
        """Give A of a block, and its clipped exponents."""
        least, emax = least_and_emax
        a = work.take("a", BLOCK)[: len(half)]
        _exponent_and_head(half, emax, a)
        if emax - least >= _CLIPPED_FROM:
            sinks[2](_clip(half, emax, a, work))
        sinks[0](a)

    def merge(
        self, streams: Sequence[Stream], emax: int, outs: Iterable[Bytes], work: Workspace
    ) -> Iterator[Bytes]:
        """Undo ``split``."""
        a, b, exponents, *low = streams
        for out in outs:
            half = self._place(out, work)
            _unjoin(a.take(len(half)), b, emax, exponents, half, work)
            self._widen(out, low, work)
            yield out
        _require_all_used(exponents)

    def _exponent_ranges(self, words: Words16, work: Workspace) -> list[tuple[int, int]]:
        """Return the range of each block."""
        return [_exponent_range(words[block], work) for block in _blocks(len(words), self.step)]


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
    step: ClassVar[int] = BLOCK // 2
    streams: ClassVar[int] = 5


class Joint16Packed(Joint16):
    """Codec 5: as codec 3, but four values of B lie in three bytes, so that no coder need look at them."""

    number: ClassVar[int] = 5
    name: ClassVar[str] = "joint16p"
    packed_stream: ClassVar[int | None] = 1

    def length(self, stream: int, words: int) -> int:
        """Return ``words``, or of the packed stream three quarters of it, rounded up to three."""
        return 3 * _quarter(words) if stream == self.packed_stream else words

    def split(self, plain: Bytes, sinks: Sequence[Sink], work: Workspace) -> int | None:
        """Give A, B packed, and the clipped exponents."""
        words = plain.view(np.uint16)
        quarter = _quarter(len(words))
        quarters = [words[index * quarter : (index + 1) * quarter] for index in range(4)]
        last = work.take("quarter", quarter)
        last[len(quarters[3]) :] = 0
        # Of each block by itself: few have clipped words.
        ranges = [self._exponent_ranges(own, work) for own in quarters[:3]]
        ranges.append([])
        for block in _blocks(len(quarters[3])):
            half = quarters[3][block]
            ranges[3].append(_exponent_range(half, work))
            _sign_and_rest(half, last[block], work)
        emax = max((greatest for own in ranges for _, greatest in own), default=0)
        for third in range(3):
            for index, block in enumerate(_blocks(quarter)):
                half = quarters[third][block]
                if len(half):
                    self._give_first(half, (ranges[third][index][0], emax), sinks, work)
                b = work.take("b", BLOCK)[: block.stop - block.start]
                _sign_and_rest(half, b[: len(half)], work)
                b[len(half) :] = 0
                _lend(b, last[block], third, work)
                sinks[1](b)
        for block, (least, _) in zip(_blocks(len(quarters[3])), ranges[3], strict=True):
            self._give_first(quarters[3][block], (least, emax), sinks, work)
        return emax

    def merge(
        self, streams: Sequence[Stream], emax: int, outs: Iterable[Bytes], work: Workspace
    ) -> Iterator[Bytes]:
        """Undo ``split``."""
        a, packed, exponents = streams
        values = _Unpacked(packed, work)
        for out in outs:
            words = out.view(np.uint16)
            _unjoin(a.take(len(words)), values, emax, exponents, words, work)
            yield out
        _require_all_used(exponents)
        values.finish()


CODECS: dict[int, Transform] = {
    transform.number: transform
    for transform in (Plain(), Planes16(), Planes32(), Joint16(), Joint32(), Joint16Packed())
}
"""The closed registry. A number, once written, keeps its meaning for ever."""
