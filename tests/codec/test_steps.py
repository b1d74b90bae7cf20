"""Objects are decoded a step at a time: wherever steps end and damage lies, bytes are right or refused."""

import contextlib
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import zstandard
from codeckit import DTYPES, array, bf16, encoded_by, f32, noise
from hypothesis import given, settings
from hypothesis import strategies as st

from archiver.buffers import BLOCK
from archiver.codec import zstd
from archiver.codec.segment import Effort, ObjectHeader, decode, decoded_digest, encode
from archiver.codec.transforms import CODECS
from archiver.digest import blake3_hex
from archiver.errors import DamageError

FETCHED = 40_000
"""Bytes that the source below gives at once."""


class Fetched:
    """Frames that are fetched into the reader's buffer, as those of a pack are; stale ones show."""

    def __init__(self, frames):
        self.frames, self.size = frames, len(frames)

    def read(self, begin, size, buffer):
        assert begin + size <= self.size
        buffer[:] = 0xEE
        buffer[:size] = np.frombuffer(self.frames[begin : begin + size], np.uint8)
        return buffer.data[:size]

    def open(self, begin, size, buffer):
        return File(self, begin, begin + size, buffer)


class File:
    def __init__(self, source, at, end, buffer):
        self.source, self.at, self.end, self.buffer = source, at, end, buffer

    def read(self, size):
        size = min(size, self.end - self.at, FETCHED)
        piece = self.source.read(self.at, size, self.buffer)
        self.at += size
        return piece


def both_ways(header, body: bytes) -> bytes:
    """What comes out of memory, which must be what comes out of a file."""
    out, fetched = np.zeros(header.size, np.uint8), np.zeros(header.size, np.uint8)
    decode(header, memoryview(body), out)
    decode(header, Fetched(body), fetched)
    assert out.tobytes() == fetched.tobytes()
    assert decoded_digest(header, Fetched(body)) == header.blake3
    return out.tobytes()


KINDS = {
    "noise": noise,
    "zeros": bytes,
    "bf16": lambda n: bf16(n // 2 + 1)[:n],
    "f32": lambda n: f32(n // 4 + 1)[:n],
}
AROUND = [-5, -1, 0, 1, 2, 7]


@pytest.mark.parametrize("number", CODECS)
@pytest.mark.parametrize("kind", ["noise", "bf16"])
def test_every_size_around_the_ends_of_steps(number, kind):
    word = CODECS[number].word
    for words in (1, BLOCK, 4 * BLOCK):
        for more in random.Random(words * word).sample(AROUND, 1):
            plain = KINDS[kind](max(1, words * word + more))
            item = encoded_by(number, plain)
            assert both_ways(item.header, b"".join(item.frames)) == plain


@settings(max_examples=25, deadline=None)
@given(
    size=st.integers(1, 40) | st.integers(1, 300_000),
    dtype=st.sampled_from(DTYPES),
    kind=st.sampled_from(sorted(KINDS)),
    effort=st.sampled_from(Effort),
)
def test_any_size_of_any_dtype(size, dtype, kind, effort):
    plain = KINDS[kind](size)
    item = encode(array(plain), dtype, effort)
    assert both_ways(item.header, b"".join(item.frames)) == plain


def mixed_frame() -> tuple[bytes, bytes]:
    """Raw blocks, then others, then raw ones again."""
    plain = noise(300_000, 1) + b"text " * 60_000 + noise(300_000, 2)
    frame = zstandard.ZstdCompressor(write_checksum=True).compress(plain)
    kinds, at = [], 4 + 1 + 4  # the content is the window: no byte for its size
    while not kinds or not kinds[-1] & 1:
        assert at < len(frame)
        head = int.from_bytes(frame[at : at + 3], "little")
        kinds.append(head)
        at += 3 + (1 if head >> 1 & 3 == 1 else head >> 3)
    assert kinds[0] >> 1 & 3 == 0
    assert {head >> 1 & 3 for head in kinds} >= {0, 2}
    return plain, frame


def test_a_frame_that_begins_raw_and_goes_on_otherwise():
    plain, frame = mixed_frame()
    header = ObjectHeader(blake3_hex(plain), len(plain), 0, (len(frame),))
    assert both_ways(header, frame) == plain
    cut = memoryview(frame)[:-5]  # the checksum, and a byte of what it is of
    shorter = ObjectHeader(header.blake3, len(plain), 0, (len(cut),))
    with pytest.raises(DamageError):
        decode(shorter, cut)


@pytest.mark.parametrize("number", CODECS)
def test_damage_in_any_step_is_refused(number):
    """One byte changed, in each eighth of the frames: damage, never other bytes."""
    word = CODECS[number].word
    plain = (bf16(2 * BLOCK + 5) if word < 4 else f32(BLOCK + 5)) + b"\x07" * (word - 1)
    item = encoded_by(number, plain)
    body = b"".join(item.frames)
    draw = random.Random(number)
    places = [draw.randrange(len(body) * k // 8, len(body) * (k + 1) // 8) for k in range(8)]
    ends = [sum(item.header.frames[: k + 1]) for k in range(len(item.header.frames))]
    for at in places + [end - 5 for end in ends] + [end % len(body) for end in ends]:
        damaged = bytearray(body)
        damaged[at] ^= 0x55
        out = np.zeros(len(plain), np.uint8)
        for source in (memoryview(damaged), Fetched(bytes(damaged))):
            try:
                decode(item.header, source, out)
            except DamageError:
                continue
            assert out.tobytes() == plain, "only a checksum was hit"
    for cut in (1, 4, 1000, len(body) // 2, len(body)):
        with pytest.raises(DamageError, match="cut short"):
            decode(item.header, memoryview(body)[:-cut])


def test_a_frame_with_a_large_window_is_decoded_at_once():
    """A decoder that reads it bit by bit would hold 32 MiB for each thread."""
    plain = bf16(100_000) * 60
    parameters = zstandard.ZstdCompressionParameters.from_level(
        3, window_log=25, write_checksum=1, write_content_size=0
    )
    small = zstandard.ZstdCompressionParameters.from_level(3, window_log=25, write_checksum=1)
    frame = zstandard.ZstdCompressor(compression_params=small).compress(plain)
    assert zstandard.get_frame_parameters(frame).window_size > zstd._STREAMED_WINDOW
    header = ObjectHeader(blake3_hex(plain), len(plain), 0, (len(frame),))
    assert both_ways(header, frame) == plain
    broken = bytearray(frame)
    broken[len(broken) // 2] ^= 1
    with pytest.raises(DamageError):
        decode(header, memoryview(broken))
    assert both_ways(header, frame) == plain, "another thread, or this one, can go on"
    nameless = zstandard.ZstdCompressor(compression_params=parameters).compress(plain)
    with pytest.raises(DamageError, match="content size"):
        decode(ObjectHeader(header.blake3, len(plain), 0, (len(nameless),)), memoryview(nameless))


@pytest.mark.parametrize("tail", ["  ", "\t\n", " a", "zz", "éé"])
def test_a_tail_that_is_no_byte_does_not_leave_one_to_the_buffer(tail):
    """The digest would be of fewer bytes than are handed out."""
    plain = bf16(100)
    item = encoded_by(1, plain)
    frames = item.header.frames
    header = ObjectHeader(item.header.blake3, len(plain) + 1, 1, frames, tail=tail)
    out = np.full(header.size, 0xEE, np.uint8)
    for place in (out, None):
        with pytest.raises(DamageError):
            decode(header, memoryview(b"".join(item.frames)), place)


def large(plain: bytes) -> bytes:
    """A frame with a window that is not streamed."""
    parameters = zstandard.ZstdCompressionParameters.from_level(1, window_log=25, write_checksum=1)
    return zstandard.ZstdCompressor(compression_params=parameters).compress(plain)


def flipped(frame: bytes, at: int) -> bytes:
    damaged = bytearray(frame)
    damaged[at] ^= 0x5A
    return bytes(damaged)


def is_free() -> bool:
    """Whether another thread could decode a frame with a large window now."""
    free = []

    def look() -> None:
        free.append(zstd._whole_frames.acquire(blocking=False))
        if free[0]:
            zstd._whole_frames.release()

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    return free[0]


@pytest.mark.parametrize("damage", ["first", "second", "checksum", "both", "cut", "words", "none"])
def test_who_decodes_a_large_window_lets_others_do_so_afterwards(damage):
    planes = [bytes(5 << 20), noise(1000) * ((5 << 20) // 1000 + 1)]
    planes[1] = planes[1][: 5 << 20]
    first, second = map(large, planes)
    for frame in (first, second):
        assert zstandard.get_frame_parameters(frame).window_size > zstd._STREAMED_WINDOW
    if damage in {"first", "both"}:
        first = flipped(first, len(first) // 2)
    if damage in {"second", "both"}:
        second = flipped(second, len(second) // 2)
    if damage == "checksum":
        second = flipped(second, -1)
    if damage == "cut":
        second = second[:-20]
    size = (10 << 20) + (2 if damage == "words" else 0)
    header = ObjectHeader("0" * 64, size, 1, (len(first), len(second)))
    body = first + second
    for source in (memoryview(body), Fetched(body)):
        for out in (None, np.empty(size, np.uint8)):
            with pytest.raises(DamageError):
                decode(header, source, out)
            assert is_free()


def test_a_source_that_fails_in_a_large_window_lets_others_go_on():
    frame = large(bytes(8 << 20) + noise(100_000))

    class Dying(Fetched):
        def read(self, begin, size, buffer):
            if size == len(frame):
                raise DamageError("the disk is gone")
            return super().read(begin, size, buffer)

    with pytest.raises(DamageError, match="the disk is gone"):
        decode(ObjectHeader("0" * 64, (8 << 20) + 100_000, 0, (len(frame),)), Dying(frame))
    assert is_free()


KEPT = {
    (number, size): (plain, encoded_by(number, plain))
    for number in CODECS
    for size in (3, 5_001, 2 * BLOCK * CODECS[number].word + 3)
    for plain in [KINDS["f32" if CODECS[number].word == 4 else "bf16"](size)]
}


@settings(max_examples=20, deadline=None)
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(sorted(KEPT)),
            st.sampled_from(["memory", "file", "digest", "damaged", "encode"]),
        ),
        min_size=2,
        max_size=6,
    )
)
def test_what_a_thread_did_before_leaves_nothing_in_what_it_does_now(steps):
    """All of it works in the same buffers, of which some stay full or half full after damage."""
    for key, way in steps:
        plain, item = KEPT[key]
        body = b"".join(item.frames)
        out = np.full(len(plain), 0xEE, np.uint8)
        if way == "damaged":
            with contextlib.suppress(DamageError):
                decode(item.header, Fetched(flipped(body, len(body) * 2 // 3)), out)
        elif way == "encode":
            again = encode(array(plain), None, Effort.FAST)
            assert both_ways(again.header, b"".join(again.frames)) == plain
        elif way == "digest":
            assert decoded_digest(item.header, Fetched(body)) == blake3_hex(plain)
        else:
            decode(item.header, memoryview(body) if way == "memory" else Fetched(body), out)
            assert out.tobytes() == plain


def test_threads_do_not_share_what_they_decode_with():
    def work(seed: int) -> bool:
        draw = random.Random(seed)
        for key in draw.sample(sorted(KEPT), 6):
            plain, item = KEPT[key]
            out = np.empty(len(plain), np.uint8)
            decode(item.header, Fetched(b"".join(item.frames)), out)
            if out.tobytes() != plain:
                return False
        return True

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(work, range(12)))
