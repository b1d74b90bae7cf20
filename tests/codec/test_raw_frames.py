"""Frames of raw blocks: what hardly shrinks becomes one, and it is read without a decoder."""

import contextlib
import random
import tracemalloc
from contextlib import closing

import numpy as np
import pytest
import zstandard
from codeckit import array, noise

from archiver.codec import zstd

BLOCK = 128 << 10
SIZES = [0, 1, 255, 256, 257, 65_535, BLOCK - 1, BLOCK, BLOCK + 1, 300_001, 1 << 20, 3 << 20]


def stored(plain: bytes) -> bytes:
    return zstd._compressor(zstd.STORED).compress(plain)


def read(frame: bytes, size: int, *, checksum: bool = False) -> bytes:
    content = zstd.Content(zstd.InMemory(frame), 0, len(frame), 0, checksum=checksum)
    with closing(content):
        if content.size != size:
            raise ValueError("another size")
        out = np.empty(size, np.uint8)
        content.fill(out)
        content.finish()
    return out.tobytes()


@pytest.mark.parametrize("size", SIZES)
def test_the_library_reads_and_writes_the_same_frames(size):
    plain = noise(size)
    frame = bytes(zstd.compress(array(plain), zstd.STORED))
    assert zstandard.ZstdDecompressor().decompress(frame) == plain
    assert 0 <= len(frame) - len(stored(plain)) <= 1
    found = zstandard.get_frame_parameters(frame)
    assert (found.content_size, found.has_checksum) == (size, True)
    assert found.window_size <= BLOCK or found.window_size == size


@pytest.mark.parametrize("size", SIZES[1:])
def test_bytes_may_come_in_pieces_of_any_size(size):
    plain, draw = noise(size), random.Random(size)
    coder, at = zstd.RawCoder(size), 0
    while at < size:
        count = draw.randrange(1, 1 + draw.choice([3, 5000, 200_000]))
        coder.write(array(plain[at : at + count]))
        at += count
    (frame,) = coder.pieces()
    assert bytes(frame) == bytes(zstd.compress(array(plain), zstd.STORED))


@pytest.mark.parametrize("size", SIZES)
def test_a_damaged_checksum_is_seen_where_it_is_looked_at(size):
    frame = bytearray(zstd.compress(array(noise(size)), zstd.STORED))
    frame[-1] ^= 1
    assert read(bytes(frame), size) == noise(size)
    with pytest.raises(ValueError, match="checksum"):
        read(bytes(frame), size, checksum=True)


def test_a_stream_that_is_cut_short_makes_no_frame():
    coder = zstd.RawCoder(5)
    coder.write(array(b"four"))
    with pytest.raises(ValueError, match="fewer"):
        coder.pieces()


@pytest.fixture
def no_decoder(monkeypatch):
    def decoder(stream: int) -> None:
        raise AssertionError("a decoder was asked for")

    monkeypatch.setattr(zstd, "_decompressor", decoder)


@pytest.mark.parametrize("size", SIZES)
def test_noise_is_stored_as_it_is_and_read_without_a_decoder(size, no_decoder):
    plain = noise(size)
    frame = stored(plain)
    assert len(frame) <= size + 15 + 3 * (1 + size // BLOCK)
    assert read(frame, size) == plain


def test_a_frame_of_one_raw_block_written_by_hand(no_decoder):
    """RFC 8878, 3.1.1: magic, one segment with checksum, size 3; a last raw block of 3; the checksum."""
    frame = bytes.fromhex("28b52ffd 24 03 190000 616263") + b"sum?"
    assert read(frame, 3) == b"abc"
    with_window = bytes.fromhex("28b52ffd 84 00 03000000 190000 616263") + b"sum?"
    assert read(with_window, 3) == b"abc"


@pytest.mark.parametrize(
    "plain", [noise(2 * BLOCK) + bytes(BLOCK) + noise(BLOCK), bytes(300_000), b"text " * 60_000]
)
def test_a_compressed_block_needs_the_decoder(plain):
    frame = zstandard.ZstdCompressor(write_checksum=True).compress(plain)
    assert read(frame, len(plain)) == plain
    assert read(stored(plain), len(plain)) == plain


def test_the_checksum_counts_where_no_digest_follows():
    plain = noise(1000)
    frame = bytearray(stored(plain))
    frame[-1] ^= 1
    with pytest.raises(ValueError, match="damaged frame"):
        read(bytes(frame), 1000, checksum=True)
    assert read(bytes(frame), 1000) == plain


@pytest.mark.parametrize("size", [1000, 140_000])
def test_a_damaged_frame_is_refused_or_its_blocks_are_what_they_were(size):
    """Bits are flipped in every header, and anywhere; bytes are cut off and put after it."""
    plain = noise(size)
    whole = stored(plain)
    second_block = len(whole) - 4 - (size - BLOCK) - 3
    draw = random.Random(size)
    headers = [*range(14), *range(second_block, second_block + 3)]
    sums = [*range(len(whole) - 4, len(whole))]
    contents = draw.sample(range(20, 1000), 20)
    damaged = [whole[:end] for end in (*range(14), size, len(whole) - 1)]
    damaged += [whole + b"\x00", whole + whole]
    for at in [place for place in headers + sums if 0 <= place < len(whole)] + contents:
        for bit in range(8):
            flipped = bytearray(whole)
            flipped[at] ^= 1 << bit
            damaged.append(bytes(flipped))
    for frame in damaged:
        try:
            ours = read(frame, size)
        except ValueError:
            continue
        changed = sum(a != b for a, b in zip(ours, plain, strict=True))
        assert changed <= (frame[:-4] != whole[:-4]), "one flipped byte is no other damage"


def test_a_stream_that_hardly_shrinks_is_stored_if_that_may_be():
    """What a coder would save here is less than half a percent."""
    stream = np.random.default_rng(1).integers(0, 250, 500_000).astype(np.uint8)
    assert zstd.best_way([stream], (zstd.STORED, zstd.HUFFMAN, 1)).number == zstd.STORED
    narrow = stream % 200
    assert zstd.best_way([narrow], (zstd.STORED, zstd.HUFFMAN, 1)).number == zstd.HUFFMAN


def test_a_stream_that_shrinks_is_not():
    for stream in (array(bytes(500_000)), array(b"text " * 100_000)):
        assert len(zstd.compress_best(stream, (zstd.STORED, zstd.HUFFMAN, 1))) < 500


def test_levels_are_tried_only_where_there_are_matches(monkeypatch):
    tried = []
    honest = zstd._compressor

    def compressor(way):
        tried.append(way)
        return honest(way)

    monkeypatch.setattr(zstd, "_compressor", compressor)
    ways = (zstd.HUFFMAN, 1, 3, 9)
    assert zstd.best_way([array(noise(50_000))], ways).number == zstd.HUFFMAN
    assert tried == [1]
    tried.clear()
    zstd.compress_best(array(noise(50_000)), ways)
    assert tried == [1]
    tried.clear()
    words = [noise(9, seed) for seed in range(300)]
    text = b"".join(random.Random(1).choices(words, k=9000))
    assert zstd.best_way([array(text)], ways).number > zstd.HUFFMAN
    assert tried[:2] == [1, 3]


def test_a_frame_of_a_million_tiny_blocks_costs_no_more_than_its_bytes():
    """Blocks of one byte each: a list of them would take more than a hundred bytes for each byte."""
    block, last = bytes.fromhex("080000 61"), bytes.fromhex("090000 61")
    size = 1 << 20
    frame = bytes.fromhex("28b52ffd a4") + size.to_bytes(4, "little")
    frame += block * (size - 1) + last + b"sum?"
    tracemalloc.start()
    try:
        with contextlib.suppress(ValueError):  # the checksum is made up
            read(frame, size)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20 << 20


@pytest.mark.parametrize("way", [zstd.STORED, zstd.HUFFMAN, 3])
@pytest.mark.parametrize("size", SIZES)
def test_a_wrong_checksum_is_made_right(way, size):
    plain = noise(size // 2) + bytes(size - size // 2)
    frame = bytes(zstd.compress(array(plain), way))
    assert len(frame) >= zstd.FRAME_LEAST
    wrong = frame[:-4] + bytes(byte ^ 0x5A for byte in frame[-4:])
    assert zstd.with_checksum(wrong) == zstd.with_checksum(frame) == frame
    bare = b"".join(zstd.without_checksum(wrong))
    assert zstandard.ZstdDecompressor().decompress(bare) == plain
    assert b"".join(zstd.without_checksum(bare)) == bare


@pytest.mark.parametrize("way", [zstd.STORED, zstd.HUFFMAN, 3])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("checksum", [True, False])
def test_the_length_of_a_frame(way, size, checksum):
    plain = noise(size // 2) + bytes(size - size // 2)
    frame = bytes(zstd.compress(array(plain), way))
    if not checksum:
        frame = b"".join(zstd.without_checksum(frame))
    for data in (frame, frame + b"more"):
        assert zstd.frame_length(lambda at, count, data=data: data[at : at + count]) == len(frame)
    for data in (b"", b"no frame", frame[:4], frame[:6]):
        with pytest.raises(ValueError, match="frame"):
            zstd.frame_length(lambda at, count, data=data: data[at : at + count])


def test_a_frame_of_endless_blocks_is_given_up():
    head = b"\x28\xb5\x2f\xfd\x00\x00"
    with pytest.raises(ValueError, match="blocks"):
        zstd.frame_length(lambda at, count: head if at == 0 else bytes(count))


def widened(frame: bytes, size: int, step: int, *, checksum: bool) -> bytes:
    content = zstd.Content(zstd.InMemory(frame), 0, len(frame), 0, checksum=checksum)
    with closing(content):
        if content.size != size:
            raise ValueError("another size")
        out = np.empty(size, np.uint16)
        for at in range(0, size, step):
            content.widen(out[at : at + step])
        content.finish()
    assert out.max(initial=0) < 256
    return out.astype(np.uint8).tobytes()


def hostile_frames(plain: bytes) -> list[bytes]:
    """A raw frame with every bit of each block header flipped, with blocks too few or too many, and cut."""
    frame = bytes(zstd.compress(array(plain), zstd.STORED))
    row, head = 3 + BLOCK, zstandard.frame_header_size(frame)
    begins = range(head, len(frame) - 4, row)
    frames = [frame]
    for begin in begins:
        for bit in range(24):
            flipped = bytearray(frame)
            flipped[begin + bit // 8] ^= 1 << bit % 8
            frames.append(bytes(flipped))
    for begin in begins[:-1]:
        frames.append(frame[:begin] + frame[begin + row :])
        frames.append(frame[:begin] + frame[begin : begin + row] + frame[begin:])
        frames.append(frame[: begin + row] + frame[-4:])
    frames += [frame[:-count] for count in (1, 3, 4, 5, 7, 8, row)]
    frames += [frame + bytes(4), frame[:-1] + bytes([frame[-1] ^ 1])]
    return frames


@pytest.mark.parametrize("size", [4 * BLOCK, 4 * BLOCK + 1000, 2 * BLOCK - 1])
@pytest.mark.parametrize("checksum", [True, False])
def test_several_blocks_at_once_are_believed_no_more_than_one_by_one(size, checksum):
    plain = noise(size)
    for number, frame in enumerate(hostile_frames(plain)):
        outcomes = []
        for look in (
            lambda frame=frame: read(frame, size, checksum=checksum),
            lambda frame=frame: widened(frame, size, 4 * BLOCK, checksum=checksum),
            lambda frame=frame: widened(frame, size, 3 * BLOCK - 5, checksum=checksum),
            lambda frame=frame: widened(frame, size, BLOCK, checksum=checksum),
        ):
            try:
                outcomes.append(look())
            except ValueError as error:
                outcomes.append(str(error))
        if not number:
            assert outcomes[0] == plain
        assert {type(outcome) for outcome in outcomes} == {type(outcomes[0])}, (number, outcomes)
        if isinstance(outcomes[0], bytes):
            assert len(set(outcomes)) == 1
