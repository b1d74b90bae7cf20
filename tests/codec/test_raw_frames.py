"""Frames of raw blocks: any Zstandard decoder reads them, and they are read without one."""

import random

import numpy as np
import pytest
import zstandard
from codeckit import array, noise

from archiver.codec import zstd

SIZES = [0, 1, 255, 256, 257, 65_535, (128 << 10) - 1, 128 << 10, (128 << 10) + 1, 300_001, 1 << 20]


def read(frame: bytes, size: int, *, checksum: bool = True) -> bytes:
    out = np.empty(size, np.uint8)
    zstd.decompress_into(frame, out, checksum=checksum)
    return out.tobytes()


@pytest.fixture
def no_decoder(monkeypatch):
    def decoder() -> None:
        raise AssertionError("a decoder was asked for")

    monkeypatch.setattr(zstd, "_decompressor", decoder)


@pytest.mark.parametrize("size", SIZES)
def test_a_stored_stream_is_a_frame_as_any_other(size):
    plain = noise(size)
    frame = zstd.store(array(plain))
    found = zstandard.get_frame_parameters(frame)
    assert (found.has_checksum, found.content_size, found.dict_id) == (True, size, 0)
    assert zstandard.ZstdDecompressor().decompress(frame) == plain
    assert len(frame) <= size + 13 + 3 * (1 + size // (128 << 10))


@pytest.mark.parametrize("size", SIZES)
def test_it_is_read_without_a_decoder(size, no_decoder):
    plain = noise(size)
    assert read(zstd.store(array(plain)), size) == plain


@pytest.mark.parametrize("size", [300, 70_000, 300_000])
def test_so_is_a_frame_that_zstd_made_of_noise(size, no_decoder):
    plain = noise(size)
    frame = zstandard.ZstdCompressor(write_checksum=True).compress(plain)
    assert read(frame, size) == plain


def test_a_compressed_block_among_raw_ones_needs_the_decoder():
    plain = noise(256 << 10) + bytes(128 << 10) + noise(128 << 10)
    frame = zstandard.ZstdCompressor(write_checksum=True).compress(plain)
    assert read(frame, len(plain)) == plain


def test_the_checksum_counts_where_no_digest_follows():
    plain = noise(1000)
    frame = bytearray(zstd.store(array(plain)))
    frame[-1] ^= 1
    with pytest.raises(ValueError, match="checksum"):
        read(bytes(frame), 1000)
    assert read(bytes(frame), 1000, checksum=False) == plain


@pytest.mark.parametrize("size", [1000, 140_000])
def test_a_damaged_frame_is_refused_or_gives_what_a_decoder_gives(size):
    """Bits are flipped in every header, and anywhere; bytes are cut off and put after it."""
    whole = zstd.store(array(noise(size)))
    second_block = 9 + 3 + (128 << 10)
    draw = random.Random(size)
    places = [
        *range(12),
        *range(second_block, second_block + 3),
        *range(len(whole) - 4, len(whole)),
    ]
    damaged = [whole[:end] for end in (*range(14), size, len(whole) - 1)]
    damaged += [whole + b"\x00", whole + whole]
    for at in [place for place in places if place < len(whole)] + draw.sample(range(size), 20):
        for bit in range(8):
            flipped = bytearray(whole)
            flipped[at] ^= 1 << bit
            damaged.append(bytes(flipped))
    for frame in damaged:
        try:
            ours = read(frame, size)
        except ValueError:
            continue
        assert ours == zstandard.ZstdDecompressor().decompress(frame)


def test_a_stream_that_hardly_shrinks_is_stored(no_decoder):
    """What a coder would save here is less than half a percent."""
    draw = np.random.default_rng(1)
    stream = draw.integers(0, 250, 500_000).astype(np.uint8)
    frame = zstd.compress(stream, (3,))
    assert len(frame) > 499_000
    assert read(frame, 500_000) == stream.tobytes()
