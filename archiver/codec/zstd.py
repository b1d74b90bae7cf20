"""Zstandard frames: the few ways in which a byte stream is coded, and bounded decoding.

``HUFFMAN`` makes zstd a block-adaptive Huffman coder: matches are so long and so rare that only
literals are left. On the exponents of trained weights it beats every higher level, which pay for
matches that save nothing. ``STORED`` is for what hardly shrinks: zstd looks in so few places that raw
blocks come out, which are read without a decoder.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import zstandard

if TYPE_CHECKING:
    from collections.abc import Sequence

    from archiver.buffers import Bytes

HUFFMAN: Final = 0
STORED: Final = -1
SAMPLE_PIECE: Final = 32 << 10
SAMPLE_PIECES: Final = 4
_SHORT = 256
"""So few bytes, such as a matrix's scale, come out the same whatever the way: only one is run."""
_WHOLE = 192 << 10
"""Streams up to this many bytes are coded in all ways; longer ones are decided on a sample."""
_WORTH: Final = 0.995
"""A slower way must save half a percent of the sample to be taken."""
_MAX_WINDOW = 1 << 25

# RFC 8878, 3.1.1
_MAGIC_BYTES: Final = 4
_SINGLE_SEGMENT: Final = 1 << 5
_CHECKSUM: Final = 1 << 2
_OTHER_FLAGS: Final = 0b1011
"""A dictionary, and the reserved bit."""
_SIZE_FLAG: Final = 6
_RAW_BLOCK: Final = 0
_BLOCK_MAX: Final = 128 << 10
_BLOCK_MIN: Final = 1 << 10
_BLOCK_HEADER: Final = 3
_CHECKSUM_BYTES: Final = 4

_local = threading.local()


def _parameters(way: int) -> zstandard.ZstdCompressionParameters:
    if way not in {HUFFMAN, STORED}:
        return zstandard.ZstdCompressionParameters.from_level(way, write_checksum=1)
    return zstandard.ZstdCompressionParameters(
        window_log=20,
        strategy=zstandard.STRATEGY_FAST,
        hash_log=6,
        chain_log=6,
        min_match=7,
        # The step of the search. Other than 0 it also turns the coding of literals off.
        target_length=zstandard.TARGETLENGTH_MAX if way == STORED else 0,
        write_checksum=1,
    )


def _compressor(way: int) -> zstandard.ZstdCompressor:
    # zstandard's contexts must not be shared between threads.
    table: dict[int, zstandard.ZstdCompressor] | None = getattr(_local, "compressors", None)
    if table is None:
        table = _local.compressors = {}
    if way not in table:
        table[way] = zstandard.ZstdCompressor(compression_params=_parameters(way))
    return table[way]


def _decompressor() -> zstandard.ZstdDecompressor:
    own: zstandard.ZstdDecompressor | None = getattr(_local, "decompressor", None)
    if own is None:
        own = _local.decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)
    return own


def sample(stream: Bytes, pieces: int = SAMPLE_PIECES, multiple: int = 1) -> Bytes:
    """Return a few evenly spread pieces of ``stream``, each a whole number of ``multiple`` bytes."""
    piece = SAMPLE_PIECE // multiple * multiple
    if len(stream) <= pieces * piece:
        return stream
    step = (len(stream) - piece) // (pieces - 1) // multiple * multiple
    return np.concatenate([stream[i * step : i * step + piece] for i in range(pieces)])


class Way(NamedTuple):
    """How a stream is coded, and the bytes that this takes of its sample."""

    number: int
    size: int


def best_way(parts: Sequence[Bytes], ways: tuple[int, ...]) -> Way:
    """Return which of ``ways`` codes a stream's sample best.

    Args:
        parts: The sample, in pieces that are coded each by itself.
        ways: Cheapest first; a dearer one must be worth it. A level that is not ends the search: where it
            finds no matches, a higher one finds few.
    """
    best = Way(ways[0], _coded(parts, ways[0]))
    for number in ways[1:]:
        size = _coded(parts, number)
        if size < best.size * _WORTH:
            best = Way(number, size)
        elif number > HUFFMAN:
            break
    return best


def _coded(parts: Sequence[Bytes], way: int) -> int:
    return sum(len(compress(part, way)) for part in parts)


def compress(stream: Bytes, way: int) -> bytes:
    """Return one frame with checksum and content size, coded this way."""
    return _compressor(way).compress(stream.data)


def compress_best(stream: Bytes, ways: tuple[int, ...]) -> bytes:
    """Return one frame as ``compress``, coded in the best of ``ways``; see ``best_way``."""
    if len(stream) <= _SHORT:
        return compress(stream, ways[-1])
    if len(stream) > _WHOLE:
        return compress(stream, best_way([sample(stream)], ways).number)
    best = compress(stream, ways[0])
    for way in ways[1:]:
        frame = compress(stream, way)
        if len(frame) < len(best):
            best = frame
        elif way > HUFFMAN:
            break
    return best


def content_size(frame: memoryview | bytes) -> int:
    """Return the plain size that a frame declares, in bytes; raise ValueError if it declares none."""
    try:
        size = zstandard.frame_content_size(frame)
    except zstandard.ZstdError as error:
        raise ValueError(f"not a Zstandard frame: {error}") from error
    if size < 0:
        raise ValueError("the frame does not declare its content size")
    return size


def decompress_into(frame: memoryview | bytes, out: Bytes, *, checksum: bool = True) -> None:
    """Fill ``out`` from one frame; raise ValueError if the frame is damaged or holds fewer bytes.

    Without ``checksum`` a frame of raw blocks is read without a decoder, and its checksum is not looked
    at: for a caller who knows the content's digest.
    """
    if content_size(frame) != len(out):
        raise ValueError("the frame's content size is not the one expected")
    blocks = None if checksum else _raw_blocks(memoryview(frame))
    if blocks is None:
        _decompress_into(frame, out)
    else:
        _copy_into(blocks, out)


def _raw_blocks(frame: memoryview) -> list[memoryview] | None:
    """Return the blocks of a frame that has a checksum and raw blocks alone, or None for any other.

    Also None where a block but the last is small: no coder makes those, and of the millions that a frame
    may have, a list would take a hundred times its bytes.

    Raise ValueError if what follows them is more or less than the checksum.
    """
    descriptor = frame[_MAGIC_BYTES]
    if not descriptor & _CHECKSUM or descriptor & _OTHER_FLAGS:
        return None
    single = bool(descriptor & _SINGLE_SEGMENT)
    at = _MAGIC_BYTES + 1 + (not single) + (int(single), 2, 4, 8)[descriptor >> _SIZE_FLAG]
    end = len(frame) - _CHECKSUM_BYTES
    blocks = []
    last = 0
    while not last:
        head = int.from_bytes(frame[at : at + _BLOCK_HEADER], "little")
        last, size = head & 1, head >> 3
        begin = at + _BLOCK_HEADER
        at = begin + size
        if head >> 1 & 3 != _RAW_BLOCK or size > _BLOCK_MAX or (size < _BLOCK_MIN and not last):
            return None
        if at > end:
            raise ValueError("the frame ends early")
        blocks.append(frame[begin:at])
    if at != end:
        raise ValueError("the frame holds more than it says")
    return blocks


def _copy_into(blocks: list[memoryview], out: Bytes) -> None:
    if sum(map(len, blocks)) != len(out):
        raise ValueError("the frame's blocks do not hold what it says")
    view = out.data
    done = 0
    for block in blocks:
        view[done : done + len(block)] = block
        done += len(block)


def _decompress_into(frame: memoryview | bytes, out: Bytes) -> None:
    view = out.data
    done = 0
    try:
        with _decompressor().stream_reader(frame) as reader:
            while done < len(view):
                got = reader.readinto(view[done:])
                if not got:
                    raise ValueError("the frame ends early")
                done += got
            # Up to the frame's end, where its checksum stands.
            if reader.read(1):
                raise ValueError("the frame holds more than it says")
    except zstandard.ZstdError as error:
        raise ValueError(f"damaged frame: {error}") from error
