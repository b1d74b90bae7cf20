"""decode.py's own Zstandard decoder against the reference, on what the reference makes and on damage."""

from __future__ import annotations

import importlib.util
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

if TYPE_CHECKING:
    from types import ModuleType

DECODER = Path(__file__).parents[2] / "archiver" / "carried" / "decode.py"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("decoder_alone", DECODER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


decoder = load()


def compressed(data: bytes, level: int = 3, *, size: bool = True, check: bool = True) -> bytes:
    options = {"write_content_size": size, "write_checksum": check}
    return zstandard.ZstdCompressor(level=level, **options).compress(data)


def skewed(seed: int, count: int, letters: int) -> bytes:
    """Bytes of which some are frequent: what a Huffman code is for."""
    weights = [1 / (1 + i) ** 1.5 for i in range(letters)]
    return bytes(random.Random(seed).choices(range(letters), weights, k=count))


def floats(seed: int, count: int) -> bytes:
    rng = random.Random(seed)
    tops = [rng.choice((0x3D, 0x3C, 0xBD, 0xBC, 0x3B)) for _ in range(count)]
    return b"".join(rng.randbytes(1) + bytes([top]) for top in tops)


TEXT = DECODER.read_bytes()
SAMPLES = {
    "empty": b"",
    "one byte": b"a",
    "text": TEXT,
    "text twice": TEXT[:70_000] * 3,
    "zeros": bytes(300_000),
    "noise": random.Random(1).randbytes(140_000),
    "skewed": skewed(2, 200_000, 256),
    "few letters": skewed(3, 200_000, 7),
    "two letters": skewed(4, 140_000, 2),
    "floats": floats(5, 60_000),
    "runs": b"".join(bytes([i % 256]) * (i % 50) for i in range(4000)),
    "short matches": b"".join(b"abc" + i.to_bytes(2, "little") for i in range(20_000)),
}


@pytest.mark.parametrize("level", [-7, 1, 3, 6, 12, 19, 22])
@pytest.mark.parametrize("name", SAMPLES)
def test_what_the_reference_makes(name, level):
    data = SAMPLES[name]
    assert decoder.inflate(compressed(data, level), len(data)) == data


@given(
    st.lists(st.tuples(st.binary(max_size=60), st.integers(1, 400)), max_size=40),
    st.sampled_from([-1, 1, 2, 4, 9, 15, 19, 22]),
    st.booleans(),
    st.booleans(),
)
def test_whatever_the_reference_makes(parts, level, size, check):
    data = b"".join(part * count for part, count in parts)
    frame = compressed(data, level, size=size, check=check)
    assert decoder.inflate(frame, len(data)) == data


@given(st.binary(max_size=5000), st.integers(1, 700), st.integers(0, 9))
def test_blocks_that_lean_on_the_one_before(data, cut, level):
    """Flushed blocks: repeated tables, repeated offsets, trees that are not stored again."""
    compressor = zstandard.ZstdCompressor(level=level or 1, write_checksum=True)
    stream = compressor.compressobj()
    frame = b""
    for at in range(0, len(data), cut):
        frame += stream.compress(data[at : at + cut] * 3)
        frame += stream.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
    frame += stream.flush()
    plain = b"".join(data[at : at + cut] * 3 for at in range(0, len(data), cut))
    assert decoder.inflate(frame, len(plain)) == plain


def reference(frame: bytes, size: int) -> bytes | None:
    reader = zstandard.ZstdDecompressor(max_window_size=1 << 25).decompressobj()
    try:
        data = reader.decompress(frame)
    except zstandard.ZstdError:
        return None
    return data if reader.eof and not reader.unused_data and len(data) == size else None


FRAMES = [compressed(data[:30_000], level) for data in SAMPLES.values() for level in (1, 19)]
SIZES = [len(data[:30_000]) for data in SAMPLES.values() for _ in (1, 19)]


@given(st.integers(0, len(FRAMES) - 1), st.integers(0, 1 << 30), st.integers(1, 255))
def test_damage_is_refused_or_harmless(which, at, change):
    """What it takes for good, the reference takes for good, and it gives the same bytes."""
    frame, size = bytearray(FRAMES[which]), SIZES[which]
    frame[at % len(frame)] ^= change
    try:
        data = decoder.inflate(bytes(frame), size)
    except decoder.Damage:
        return
    assert data == reference(bytes(frame), size)


@given(st.integers(0, len(FRAMES) - 1), st.integers(0, 1 << 30), st.integers(1, 255))
def test_damage_without_a_checksum_to_notice_it(which, at, change):
    """Nothing but an answer or Damage, whatever the tables say; and the answer is the reference's."""
    frame = bytearray(FRAMES[which])
    frame[4] &= ~4
    del frame[-4:]
    at = 5 + at % max(len(frame) - 5, 1)
    if at < len(frame):
        frame[at] ^= change
    try:
        data = decoder.inflate(bytes(frame), SIZES[which])
    except decoder.Damage:
        return
    expected = reference(bytes(frame), SIZES[which])
    assert expected in (data, None)


@given(st.binary(max_size=400))
def test_no_bytes_at_all_do_anything_else(data):
    for frame in (data, b"\x28\xb5\x2f\xfd" + data):
        try:
            decoder.inflate(frame, 1000)
        except decoder.Damage:
            continue


@given(st.integers(0, len(FRAMES) - 1), st.integers(0, 1 << 30))
def test_no_part_of_a_frame_will_do(which, length):
    frame = FRAMES[which]
    with pytest.raises(decoder.Damage):
        decoder.inflate(frame[: length % len(frame)], SIZES[which])


def test_a_frame_that_swells_is_stopped():
    import tracemalloc

    bomb = compressed(bytes(200_000_000), size=False)
    tracemalloc.start()
    with pytest.raises(decoder.Damage):
        decoder.inflate(bomb, 1000)
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()


def test_a_dictionary_and_a_window_too_large_are_refused():
    samples = [b"some words that recur %d" % i for i in range(2000)]
    words = zstandard.ZstdCompressionDict(zstandard.train_dictionary(1000, samples).as_bytes())
    frame = zstandard.ZstdCompressor(dict_data=words).compress(b"some words that recur 1")
    with pytest.raises(decoder.Damage):
        decoder.inflate(frame, 23)
    parameters = zstandard.ZstdCompressionParameters(window_log=27, write_content_size=False)
    stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    wide = stream.compress(b"a" * 100) + stream.flush()
    with pytest.raises(decoder.Damage):
        decoder.inflate(wide, 100)


def checksum(data: bytes) -> bytes:
    """As the reference writes it at the end of a frame."""
    return compressed(data)[-4:]


@given(st.binary(max_size=300))
def test_the_checksum(data):
    assert decoder.xxh64(data).to_bytes(8, "little")[:4] == checksum(data)


def test_the_checksum_of_more_than_one_round():
    data = random.Random(9).randbytes(200_003)
    assert decoder.xxh64(data).to_bytes(8, "little")[:4] == checksum(data)
    assert decoder.xxh64(b"") == 0xEF46DB3751D8E999
