"""Zstandard frames: the few ways in which a byte stream is coded, and bounded decoding.

``HUFFMAN`` makes zstd a block-adaptive Huffman coder: nearly no byte is looked up, so that only
literals are left. On the exponents of trained weights it beats every higher level, which pay for
matches that save nothing. ``STORED`` is for what hardly shrinks: raw blocks, which are written and read
without zstd, each byte copied once.
"""

from __future__ import annotations

import io
import sys
import threading
from bisect import bisect_right
from contextlib import closing
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import numpy as np
import xxhash
import zstandard

if sys.version_info >= (3, 14):
    from compression import zstd as stdlib_zstd
else:
    from backports import zstd as stdlib_zstd

from archiver.buffers import BLOCK, workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from archiver.buffers import Bytes, Words16, Words32

Piece = bytes | memoryview
"""A stretch of a frame, or all of it."""

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
_STREAMED_WINDOW: Final = 4 << 20
"""A decoder keeps the window of what it reads bit by bit. What this project writes has none that is larger;
frames that others made are decoded at once, and only one at a time in the whole process."""
_WINDOW_LOG: Final = 17
"""Of what is coded without matches: the windows of a coder and of a decoder stay in the core's cache."""
_LITERAL_MODE: Final = 1002
"""zstd's ZSTD_c_literalCompressionMode, which zstd.h calls experimental. Whatever becomes of it, what is
made is a frame, and is decoded before it is stored."""
_ALWAYS: Final = 1
_TABLE_LOG: Final = 20
"""Of what is coded with matches: at level 9 its tables would take 24 MB, which each sample clears."""

# RFC 8878, 3.1.1
_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_SINGLE_SEGMENT: Final = 1 << 5
_CHECKSUM: Final = 1 << 2
_OTHER_FLAGS: Final = 0b1011
"""A dictionary, and the reserved bit."""
_SIZE_FLAG: Final = 6
_SIZE_FIELDS: Final = ((1 << 8, 1, 0), ((1 << 16) + 256, 2, 256), (1 << 32, 4, 0))
"""Contents below so many bytes have their size in so many bytes, less so much."""
_WINDOW_FIELD: Final = (_WINDOW_LOG - 10) << 3
_RAW_BLOCK: Final = 0
_RLE_BLOCK: Final = 1
_BLOCK_MAX: Final = 128 << 10
_BLOCK_MIN: Final = 1 << 10
_BLOCK_HEADER: Final = 3
_BLOCKS_MAX: Final = 1 << 19
"""Of a frame whose length is sought: a thousand for each block that a manifest of 64 MiB may fill."""
_FULL_BLOCK: Final = np.frombuffer((_BLOCK_MAX << 3).to_bytes(_BLOCK_HEADER, "little"), np.uint8)
"""The header of a raw block of the greatest size that is not the last."""
_CHECKSUM_BYTES: Final = 4
FRAME_LEAST: Final = len(_MAGIC) + 1 + 1 + _BLOCK_HEADER + _CHECKSUM_BYTES
"""Bytes of a frame that holds nothing."""
_HEAD_MAX: Final = 18
_FETCHED: Final = _HEAD_MAX + _BLOCK_HEADER + _BLOCK_MAX
"""A frame's head and its first block are read at once."""

_whole_frames = threading.RLock()


class _Contexts(threading.local):
    """zstd's: a thread has its own, and each stream that it works on at once has its own."""

    def __init__(self) -> None:
        self.compressors: dict[tuple[int, int], zstandard.ZstdCompressor] = {}
        self.literal_coders: dict[int, stdlib_zstd.ZstdCompressor] = {}
        self.decompressors: dict[int, zstandard.ZstdDecompressor] = {}


_own = _Contexts()


def _compressor(level: int, stream: int = 0) -> zstandard.ZstdCompressor:
    made = _own.compressors.get((level, stream))
    if made is None:
        default = zstandard.ZstdCompressionParameters.from_level(level)
        parameters = zstandard.ZstdCompressionParameters.from_level(
            level,
            window_log=min(default.window_log, _TABLE_LOG),
            chain_log=min(default.chain_log, _TABLE_LOG - 1),
            hash_log=min(default.hash_log, _TABLE_LOG - 1),
            write_checksum=1,
        )
        made = zstandard.ZstdCompressor(compression_params=parameters)
        _own.compressors[level, stream] = made
    return made


def _literal_coder(size: int, stream: int = 0) -> stdlib_zstd.ZstdCompressor:
    """Return what codes the literals of ``size`` bytes and looks for no matches; it begins a frame."""
    made = _own.literal_coders.get(stream)
    if made is None or made.last_mode != made.FLUSH_FRAME:  # or an error has left it within a frame
        key = stdlib_zstd.CompressionParameter
        options: dict[int, int] = {
            key.window_log: _WINDOW_LOG,
            key.strategy: stdlib_zstd.Strategy.fast,
            key.hash_log: 6,
            key.chain_log: 6,
            key.min_match: 7,
            key.checksum_flag: 1,
        }
        try:
            # Without the second option, the first would turn the coding of literals off.
            looks_once_a_block = {key.target_length: _BLOCK_MAX, _LITERAL_MODE: _ALWAYS}
            made = stdlib_zstd.ZstdCompressor(options=options | looks_once_a_block)
        except ValueError:
            # A libzstd that does not know it any more searches, if seldom: a twentieth of an import.
            made = stdlib_zstd.ZstdCompressor(options=options | {key.target_length: 0})
        _own.literal_coders[stream] = made
    made.set_pledged_input_size(size)
    return made


def _decompressor(stream: int) -> zstandard.ZstdDecompressor:
    made = _own.decompressors.get(stream)
    if made is None:
        made = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)
        _own.decompressors[stream] = made
    return made


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


def compress(stream: Bytes, way: int) -> Piece:
    """Return one frame with checksum and content size, coded this way."""
    if way == STORED:
        coder = RawCoder(len(stream))
        coder.write(stream)
        return coder.pieces()[0]
    if way == HUFFMAN:
        literals = _literal_coder(len(stream))
        return literals.compress(stream.data, literals.FLUSH_FRAME)
    return _compressor(way).compress(stream.data)


class RawCoder:
    """Puts a stream of ``size`` bytes into one frame of raw blocks, as they come."""

    def __init__(self, size: int) -> None:
        _, length, less = next(field for field in _SIZE_FIELDS if size < field[0])
        single = size <= _BLOCK_MAX
        flag = length.bit_length() - 1
        descriptor = flag << _SIZE_FLAG | _CHECKSUM | (_SINGLE_SEGMENT if single else 0)
        head = _MAGIC + bytes([descriptor] if single else [descriptor, _WINDOW_FIELD])
        head += (size - less).to_bytes(length, "little")
        blocks = max(1, -(-size // _BLOCK_MAX))
        whole = len(head) + blocks * _BLOCK_HEADER + size + _CHECKSUM_BYTES
        self._frame: Bytes = np.empty(whole, np.uint8)
        self._frame[: len(head)] = bytearray(head)
        # All blocks but the last are full: a table, in which a row is a header and a block.
        row = _BLOCK_HEADER + _BLOCK_MAX
        last = len(head) + (blocks - 1) * row
        self._full = self._frame[len(head) : last].reshape(-1, row)
        self._full[:, :_BLOCK_HEADER] = bytearray(_raw_head(_BLOCK_MAX, last=False))
        self._frame[last : last + _BLOCK_HEADER] = bytearray(
            _raw_head(size - (blocks - 1) * _BLOCK_MAX, last=True)
        )
        self._last = self._frame[last + _BLOCK_HEADER : whole - _CHECKSUM_BYTES]
        self._size = size
        self._done = 0
        self._hash = xxhash.xxh64()

    def write(self, piece: Bytes) -> None:
        """Take the next bytes."""
        self._hash.update(piece.data)
        while len(piece):
            block, at = divmod(self._done, _BLOCK_MAX)
            rows = min(len(piece) // _BLOCK_MAX, len(self._full) - block)
            if not at and rows > 0:
                taken = rows * _BLOCK_MAX
                target = self._full[block : block + rows, _BLOCK_HEADER:]
                target[:] = piece[:taken].reshape(rows, _BLOCK_MAX)
            else:
                inside = block < len(self._full)
                target = self._full[block, _BLOCK_HEADER + at :] if inside else self._last[at:]
                taken = min(len(target), len(piece))
                target[:taken] = piece[:taken]
            self._done += taken
            piece = piece[taken:]

    def pieces(self) -> list[Piece]:
        """Return the frame, in one piece; raise ValueError unless all of the stream came."""
        if self._done != self._size:
            raise ValueError("fewer bytes came than were announced")
        self._frame[-_CHECKSUM_BYTES:] = bytearray(_checksum(self._hash))
        return [self._frame.data]


def _raw_head(size: int, *, last: bool) -> bytes:
    return (size << 3 | _RAW_BLOCK << 1 | last).to_bytes(_BLOCK_HEADER, "little")


def _checksum(content: xxhash.xxh64) -> bytes:
    """Return the checksum of a frame's content: the lower four bytes of its XXH64."""
    return (content.intdigest() & 0xFFFFFFFF).to_bytes(_CHECKSUM_BYTES, "little")


def without_checksum(frame: Piece) -> tuple[Piece, ...]:
    """Return the same frame without its checksum, in pieces; it is to be longer than a frame's head."""
    at, view = len(_MAGIC), memoryview(frame)
    if not view[at] & _CHECKSUM:
        return (view,)
    return bytes([*view[:at], view[at] & ~_CHECKSUM]), view[at + 1 : -_CHECKSUM_BYTES]


def with_checksum(frame: Piece) -> bytes:
    """Return a frame with the checksum that its content demands; ValueError if it gives none."""
    source = InMemory(*without_checksum(frame))
    hasher = xxhash.xxh64()
    with closing(Content(source, 0, source.size, 0, checksum=False)) as content:
        while content.left:
            hasher.update(content.take(min(BLOCK, content.left)).data)
        content.finish()
    return bytes(memoryview(frame)[:-_CHECKSUM_BYTES]) + _checksum(hasher)


class Coder:
    """Codes a stream of ``size`` bytes as ``compress`` does, as they come.

    A thread may code several at once, each under another number ``stream``.
    """

    def __init__(self, way: int, size: int, stream: int) -> None:
        self._coder: stdlib_zstd.ZstdCompressor | zstandard.ZstdCompressionObj
        if way == HUFFMAN:
            self._coder = _literal_coder(size, stream)
        else:
            self._coder = _compressor(way, stream).compressobj(size=size)
        self._pieces: list[Piece] = []

    def write(self, piece: Bytes) -> None:
        """Take the next bytes."""
        self._pieces.append(self._coder.compress(piece.data))

    def pieces(self) -> list[Piece]:
        """Return the frame, in pieces: to join them would take as much memory again."""
        return [*self._pieces, self._coder.flush()]


def coder(way: int, size: int, stream: int) -> RawCoder | Coder:
    """Return what codes a stream of ``size`` bytes; a thread has one at once for each number ``stream``."""
    return RawCoder(size) if way == STORED else Coder(way, size, stream)


def compress_best(stream: Bytes, ways: tuple[int, ...]) -> Piece:
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
    return _parameters_of(frame).content_size


def _parameters_of(frame: memoryview | bytes) -> zstandard.FrameParameters:
    try:
        parameters = zstandard.get_frame_parameters(frame)
    except zstandard.ZstdError as error:
        raise ValueError(f"not a Zstandard frame: {error}") from error
    if parameters.content_size == zstandard.CONTENTSIZE_UNKNOWN:
        raise ValueError("the frame does not declare its content size")
    return parameters


def frame_length(read: Callable[[int, int], Piece]) -> int:
    """Return how many bytes the frame takes at the beginning of what ``read(offset, size)`` gives.

    Raise ValueError if there is none, or if what is given ends inside of it.
    """
    head = read(0, _HEAD_MAX)
    if len(head) <= len(_MAGIC) or head[: len(_MAGIC)] != _MAGIC:
        raise ValueError("not a Zstandard frame")
    descriptor = head[len(_MAGIC)]
    single = bool(descriptor & _SINGLE_SEGMENT)
    at = len(_MAGIC) + 1 + (not single) + (0, 1, 2, 4)[descriptor & 3]
    at += (int(single), 2, 4, 8)[descriptor >> _SIZE_FLAG]
    for _ in range(_BLOCKS_MAX):
        block = read(at, _BLOCK_HEADER)
        if len(block) < _BLOCK_HEADER:
            raise ValueError("the frame ends early")
        value = int.from_bytes(block, "little")
        at += _BLOCK_HEADER + (1 if value >> 1 & 3 == _RLE_BLOCK else value >> 3)
        if value & 1:
            return at + (_CHECKSUM_BYTES if descriptor & _CHECKSUM else 0)
    raise ValueError("the frame has more blocks than any coder makes")


class Source(Protocol):
    """Where the frames of an object lie, one behind the other."""

    size: int
    """Bytes of all of them."""

    def read(self, begin: int, size: int, buffer: Bytes) -> memoryview:
        """Return a stretch, in ``buffer`` if it must be fetched; DamageError where it cannot be had."""

    def open(self, begin: int, size: int, buffer: Bytes) -> memoryview | Readable:
        """Return a stretch as what zstandard reads from, piece by piece through ``buffer``."""


class Readable(Protocol):
    """A file, as zstandard reads it."""

    def read(self, size: int) -> memoryview:
        """Return the next bytes, at most so many; none at the end."""


class InMemory:
    """Frames that are in memory, in pieces."""

    def __init__(self, *pieces: Piece) -> None:
        self._pieces = pieces
        self._begins = [0, *accumulate(map(len, pieces))]
        self.size = self._begins[-1]

    def read(self, begin: int, size: int, buffer: Bytes) -> memoryview:
        """Return a stretch, in ``buffer`` if it lies in several pieces."""
        stretch = self.open(begin, size, buffer)
        if isinstance(stretch, memoryview):
            return stretch
        done = 0
        while done < len(buffer) and (piece := stretch.read(len(buffer) - done)):
            buffer.data[done : done + len(piece)] = piece
            done += len(piece)
        return buffer.data[:done]

    def open(self, begin: int, size: int, buffer: Bytes) -> memoryview | Readable:
        """Return a stretch, piece by piece if it lies in several."""
        del buffer
        number = bisect_right(self._begins, begin) - 1
        if number >= len(self._pieces):
            return memoryview(b"")
        at = begin - self._begins[number]
        if at + size <= len(self._pieces[number]):
            return memoryview(self._pieces[number])[at : at + size]
        return _Pieces(self._pieces[number:], at, size)


class _Pieces:
    """A stretch of several pieces of memory, as a file."""

    def __init__(self, pieces: Sequence[Piece], at: int, size: int) -> None:
        self._rest = iter(pieces)
        self._piece = memoryview(next(self._rest))[at:]
        self._left = size

    def read(self, size: int) -> memoryview:
        """Return the next bytes, no more than one piece of them."""
        while not self._piece and self._left and (piece := next(self._rest, None)) is not None:
            self._piece = memoryview(piece)
        read = self._piece[: min(size, self._left)]
        self._piece = self._piece[len(read) :]
        self._left -= len(read)
        return read


class _Reader(Protocol):
    def readinto(self, buffer: memoryview, /) -> int: ...
    def read(self, size: int, /) -> bytes: ...


class Content:
    """What one frame holds, from its beginning on, at most ``BLOCK`` bytes at a time. To be closed.

    Raw blocks are read without a decoder. Without ``checksum``, if there are no others, that of the frame
    is not looked at: for a caller who knows the digest of the content.
    """

    def __init__(
        self, source: Source, begin: int, length: int, stream: int, *, checksum: bool
    ) -> None:
        """Begin to read the frame of ``length`` bytes at ``begin``.

        A thread may read several frames at once, each under another number ``stream``. Raise ValueError if
        it is no frame.
        """
        self._source = source
        self._begin, self._end = begin, begin + length
        self._stream = stream
        self._buffer = workspace().take(f"frame{stream}", _FETCHED)
        self._window_at, self._window = begin, memoryview(b"")
        whole = source.open(begin, length, self._buffer) if isinstance(source, InMemory) else None
        if isinstance(whole, memoryview):
            self._window = whole
        head = self._bytes(begin, _HEAD_MAX)
        parameters = _parameters_of(head)
        self.size: int = parameters.content_size
        self.left = self.size
        self._window_size: int = parameters.window_size
        self._reader: _Reader | None = None
        self._holds_lock = False
        self._block = memoryview(b"")
        self._last = False
        descriptor = head[len(_MAGIC)]
        self._raw = bool(descriptor & _CHECKSUM) and not descriptor & _OTHER_FLAGS
        self._hash = xxhash.xxh64() if checksum else None
        single = bool(descriptor & _SINGLE_SEGMENT)
        self._at = begin + len(_MAGIC) + 1 + (not single)
        self._at += (int(single), 2, 4, 8)[descriptor >> _SIZE_FLAG]

    def close(self) -> None:
        """Let go of what was taken for reading."""
        self._reader = None
        if self._holds_lock:
            self._holds_lock = False
            _whole_frames.release()

    def take(self, count: int) -> Bytes:
        """Return the next bytes, valid until the next call; ValueError if the frame is damaged."""
        if self._raw and 0 < count <= min(self.left, len(self._block)):
            piece, self._block = self._block[:count], self._block[count:]
            self.left -= count
            return np.frombuffer(piece, np.uint8)
        out = workspace().take(f"content{self._stream}", BLOCK)[:count]
        self.fill(out)
        return out

    def fill(self, out: Bytes) -> None:
        """Put the next bytes into ``out``; raise ValueError if the frame is damaged."""
        view, done = out.data, 0
        if len(view) > self.left:
            raise ValueError("the frame ends early")
        while done < len(view) and self._raw:
            if not self._block and not self._next_block(self.size - self.left + done):
                break
            size = min(len(self._block), len(view) - done)
            view[done : done + size] = self._block[:size]
            self._block = self._block[size:]
            done += size
        if done < len(view):
            self._decode_into(view[done:])
        self.left -= len(view)

    def widen(self, out: Words16 | Words32) -> None:
        """Put the next bytes into ``out``, one into each word; raise ValueError if the frame is damaged."""
        done = 0
        while done < len(out):
            count = len(out) - done
            # Of a raw frame as much as lies together: it needs no copy before this one.
            blocks = self._full_blocks(count)
            if blocks is not None:
                count = blocks.size
                np.copyto(out[done : done + count].reshape(blocks.shape), blocks)
            else:
                if self._raw and (self._block or self._next_block(self.size - self.left)):
                    count = min(count, len(self._block))
                np.copyto(out[done : done + count], self.take(count))
            done += count

    def finish(self) -> None:
        """Raise ValueError unless all of the content was taken, and the frame ends where it should."""
        if self.left:
            raise ValueError("more is stored than there are words")
        while self._raw and not self._last:
            if self._block or (self._next_block(self.size) and self._block):
                raise ValueError("the frame holds more than it says")
        if self._raw:
            if self._block:
                raise ValueError("the frame holds more than it says")
            # Where the last block ended: `_next_block` has seen to it.
            if self._hash is not None and self._bytes(self._at, _CHECKSUM_BYTES) != _checksum(
                self._hash
            ):
                raise ValueError("damaged frame: its checksum is another")
            return
        # Up to the frame's end, where its checksum stands.
        try:
            if self._decoder().read(1):
                raise ValueError("the frame holds more than it says")
        except zstandard.ZstdError as error:
            raise ValueError(f"damaged frame: {error}") from error

    # Raw blocks

    def _bytes(self, begin: int, size: int) -> memoryview:
        """Return a stretch of the frame, shorter only at its end."""
        size = min(size, self._end - begin)
        inside = self._window_at <= begin and begin + size <= self._window_at + len(self._window)
        if not inside:
            fetched = min(self._end - begin, len(self._buffer))
            self._window = self._source.read(begin, fetched, self._buffer)
            self._window_at = begin
        at = begin - self._window_at
        return self._window[at : at + size]

    def _full_blocks(self, count: int) -> Bytes | None:
        """Return the next blocks as rows, ``count`` bytes at most, if they are full, raw and in memory.

        Taken one by one they are half of the calls that the interpreter makes for a proof.
        """
        if not self._raw or self._block:
            return None
        begin, row = self._at - self._window_at, _BLOCK_HEADER + _BLOCK_MAX
        number = min(min(count, self.left) // _BLOCK_MAX, (len(self._window) - begin) // row)
        if begin < 0 or number <= 0:
            return None
        rows = np.frombuffer(self._window[begin : begin + number * row], np.uint8)
        rows = rows.reshape(number, row)
        if not (rows[:, :_BLOCK_HEADER] == _FULL_BLOCK).all():
            return None
        content = rows[:, _BLOCK_HEADER:]
        if self._hash is not None:
            for block in content:
                self._hash.update(block.data)
        self._at += number * row
        self.left -= content.size
        return content

    def _next_block(self, done: int) -> bool:
        """Take up the next raw block; if it is another kind, decode from here on, and return False.

        So is a small block that is not the last: no coder makes those.
        """
        head = int.from_bytes(self._bytes(self._at, _BLOCK_HEADER), "little")
        last, size = bool(head & 1), head >> 3
        if (
            self._last
            or head >> 1 & 3 != _RAW_BLOCK
            or size > _BLOCK_MAX
            or (size < _BLOCK_MIN and not last)
        ):
            self._raw = False
            self._skip(done)
            return False
        end = self._at + _BLOCK_HEADER + size
        content_end = self._end - _CHECKSUM_BYTES
        if end > content_end:
            raise ValueError("the frame ends early")
        if last and end != content_end:
            raise ValueError("the frame holds more than it says")
        self._block = self._bytes(self._at, _BLOCK_HEADER + size)[_BLOCK_HEADER:]
        if self._hash is not None:
            self._hash.update(self._block)
        self._at, self._last = end, last
        return True

    # Other blocks

    def _skip(self, count: int) -> None:
        """Decode what was read from raw blocks already, and drop it."""
        scratch = workspace().take("skipped", min(count, BLOCK))
        while count:
            size = min(count, BLOCK)
            self._decode_into(scratch.data[:size])
            count -= size

    def _decoder(self) -> _Reader:
        if self._reader is None:
            length, decompressor = self._end - self._begin, _decompressor(self._stream)
            if self._window_size <= _STREAMED_WINDOW:
                frame: Any = self._source.open(self._begin, length, self._buffer)
                self._reader = decompressor.stream_reader(frame, read_size=len(self._buffer))
            else:
                _whole_frames.acquire()
                self._holds_lock = True
                whole = self._source.read(self._begin, length, np.empty(length, np.uint8))
                content = np.empty(self.size, np.uint8)
                reader = decompressor.stream_reader(whole)
                _read_all(reader, content.data)
                if reader.read(1):
                    raise ValueError("the frame holds more than it says")
                self._reader = io.BytesIO(content.data)
        return self._reader

    def _decode_into(self, view: memoryview) -> None:
        try:
            _read_all(self._decoder(), view)
        except zstandard.ZstdError as error:
            raise ValueError(f"damaged frame: {error}") from error


def _read_all(reader: _Reader, view: memoryview) -> None:
    done = 0
    while done < len(view):
        got = reader.readinto(view[done:])
        if not got:
            raise ValueError("the frame ends early")
        done += got
