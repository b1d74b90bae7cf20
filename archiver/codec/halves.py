"""16-bit halves <-> two byte streams, block by block: the rotated split and the joint split.

Format: ``docs/format.md``, section 4, codecs 1 and 3. A *half* is a 16-bit word, or the upper 16 bits
of a 32-bit word. All arrays of one call have the same length, at most ``workspace.BLOCK``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from archiver.codec.workspace import Words16, Workspace
    from archiver.codec.zstd import Bytes

CLIPPED = 63 << 2
"""First value of A that marks a clipped word."""


def rotate(words: Words16, high: Bytes, low: Bytes, work: Workspace) -> None:
    """Split words rotated left by one bit into their high and low bytes."""
    left, right = work.first[: len(words)], work.second[: len(words)]
    np.left_shift(words, 1, out=left)
    np.right_shift(words, 15, out=right)
    np.bitwise_or(left, right, out=left)
    np.copyto(low, left, casting="unsafe")
    np.right_shift(words, 7, out=right)
    np.copyto(high, right, casting="unsafe")


def unrotate(high: Bytes, low: Bytes, words: Words16, work: Workspace) -> None:
    """Undo ``rotate``."""
    top, bottom = work.first[: len(words)], work.second[: len(words)]
    np.copyto(top, high)
    np.left_shift(top, 7, out=top)
    np.copyto(bottom, low)
    np.right_shift(bottom, 1, out=words)
    np.bitwise_or(words, top, out=words)
    np.left_shift(bottom, 15, out=bottom)
    np.bitwise_or(words, bottom, out=words)


def exponent_max(words: Words16, work: Workspace) -> int:
    """The greatest BF16 exponent (0 to 255) among ``words``."""
    plain = work.first[: len(words)]
    np.bitwise_and(words, 0x7F80, out=plain)
    return int(plain.max()) >> 7


def join(words: Words16, emax: int, first: Bytes, second: Bytes, work: Workspace) -> bytes:
    """Split BF16 words into A and B; gives the exponents of the clipped words, in order."""
    a, b = work.first[: len(words)], work.second[: len(words)]
    np.right_shift(words, 5, out=a)
    np.bitwise_and(a, 0x3FF, out=a)
    np.bitwise_xor(a, 3, out=a)
    # exponent and inverted mantissa head in one subtraction: the head comes out upright
    np.subtract(np.uint16(emax << 2 | 3), a, out=a)
    aside = _clip(words, a) if int(a.max()) >= CLIPPED else b""
    np.copyto(first, a, casting="unsafe")
    np.right_shift(words, 10, out=b)
    np.bitwise_and(b, 32, out=b)
    np.bitwise_and(words, 31, out=a)
    np.bitwise_or(a, b, out=a)
    np.copyto(second, a, casting="unsafe")
    return aside


def _clip(words: Words16, a: Words16) -> bytes:
    clipped = a >= CLIPPED
    exponents = (words[clipped] >> 7) & 0xFF
    a[clipped] = CLIPPED | (a[clipped] & 3)
    return exponents.astype(np.uint8).tobytes()


def unjoin(
    first: Bytes, second: Bytes, emax: int, aside: Bytes, words: Words16, work: Workspace
) -> int:
    """Undo ``join``; gives how many of the ``aside`` exponents were used.

    Raises ValueError if there are fewer of them than clipped words.
    """
    a, b = work.first[: len(words)], work.second[: len(words)]
    np.copyto(a, first)
    np.subtract(np.uint16(emax << 2 | 3), a, out=a)
    np.bitwise_xor(a, 3, out=a)
    np.left_shift(a, 5, out=a)
    used = _unclip(first, a, aside) if int(first.max()) >= CLIPPED else 0
    np.copyto(b, second)
    np.left_shift(b, 10, out=words)
    np.bitwise_or(words, b, out=words)
    np.bitwise_and(words, 0x801F, out=words)
    np.bitwise_or(words, a, out=words)
    return used


def _unclip(first: Bytes, a: Words16, aside: Bytes) -> int:
    clipped = np.flatnonzero(first >= CLIPPED)
    if len(clipped) > len(aside):
        raise ValueError("fewer exponents were kept aside than words were clipped")
    exponents = aside[: len(clipped)].astype(np.uint16)
    a[clipped] = (exponents << 7) | ((first[clipped].astype(np.uint16) & 3) << 5)
    return len(clipped)
