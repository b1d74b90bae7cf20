"""Whatever a segment holds, it comes back: by this package, and by the decoder in the archive."""

import numpy as np
import pytest
import zstandard
from codeckit import DTYPES, array, bf16, decoded_by_reference, f32, noise, upcast
from hypothesis import given, settings
from hypothesis import strategies as st

from archiver.codec import segment, zstd
from archiver.codec.segment import SEGMENT_MAX, Effort, EncodedObject, check_header, decode, encode
from archiver.codec.transforms import CODECS
from archiver.codec.workspace import BLOCK, workspace
from archiver.digest import blake3_hex

SPECIAL16 = [0x0000, 0x8000, 0x7F80, 0xFF80, 0x7FC0, 0xFFC1, 0x7FAA, 0xFFFF, 0x0001, 0x8001, 0x7F7F]
HEADER_BOUND = 400
"""More than any object's header and the frames of its empty streams take."""


def back(item: EncodedObject) -> bytes:
    out = np.empty(item.header.size, np.uint8)
    decode(item.header, memoryview(b"".join(item.frames)), out)
    return out.tobytes()


def words16(draw_words: list[int]) -> bytes:
    return np.array(draw_words, "<u2").tobytes()


plain_bytes = st.one_of(
    st.binary(min_size=1, max_size=300),
    st.lists(st.sampled_from(SPECIAL16), min_size=1, max_size=200).map(words16),
    st.lists(st.integers(0, 0xFFFF), min_size=1, max_size=200).map(words16),
    st.builds(lambda byte, count: bytes([byte]) * count, st.integers(0, 255), st.integers(1, 5000)),
    st.builds(bf16, st.integers(1, 3000), st.integers(0, 9), st.sampled_from([1e-30, 0.02, 1e30])),
    st.builds(f32, st.integers(1, 1500), st.integers(0, 9)),
    st.builds(upcast, st.integers(1, 1500), st.integers(0, 9)),
)


# Every transform alone


@pytest.mark.parametrize("number", CODECS)
@settings(max_examples=60, deadline=None)
@given(plain=plain_bytes)
def test_every_transform_undoes_itself(number, plain):
    transform = CODECS[number]
    whole = len(plain) // transform.word * transform.word
    if not whole:
        return
    data = array(plain)[:whole]
    streams, emax = transform.split(data, workspace())
    assert len(streams) == transform.streams
    kept = [stream.copy() for stream in streams]
    out = np.empty(whole, np.uint8)
    transform.merge(kept, emax or 0, out, workspace())
    assert out.tobytes() == plain[:whole]


@pytest.mark.parametrize("number", CODECS)
@settings(max_examples=40, deadline=None)
@given(plain=plain_bytes)
def test_every_codec_is_read_by_the_reference(number, plain):
    item = segment._attempt(
        array(plain), CODECS[number], Effort.FAST, blake3_hex(plain), workspace()
    )
    assert item is not None
    assert item.header.codec == number
    check_header(item.header)
    assert back(item) == plain
    assert decoded_by_reference(item) == plain


@pytest.mark.parametrize("number", [1, 2, 3, 4])
@pytest.mark.parametrize("count", [BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 3])
def test_blocks_meet_without_a_seam(number, count):
    word = CODECS[number].word
    plain = noise(count * word, seed=count) + b"\x01" * (word - 1)
    item = segment._attempt(
        array(plain), CODECS[number], Effort.FAST, blake3_hex(plain), workspace()
    )
    assert item is not None
    assert back(item) == plain
    assert decoded_by_reference(item) == plain


# encode and decode


@pytest.mark.parametrize("effort", Effort)
@settings(max_examples=60, deadline=None)
@given(plain=plain_bytes, dtype=st.sampled_from(DTYPES))
def test_encode_and_decode(effort, plain, dtype):
    item = encode(array(plain), dtype, effort)
    check_header(item.header)
    assert item.header.blake3 == blake3_hex(plain)
    assert back(item) == plain
    assert item.stored <= len(plain) + HEADER_BOUND


@pytest.mark.parametrize("effort", Effort)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 4095, 4096, 4097, 4099, 70_001])
def test_odd_lengths(effort, dtype, size):
    for plain in (noise(size), bytes(size), bf16(size)[:size], upcast(size)[:size]):
        item = encode(array(plain), dtype, effort)
        assert back(item) == plain
        assert decoded_by_reference(item) == plain


KINDS = {
    "noise": noise,
    "zeros": bytes,
    "bf16": lambda n: bf16(n // 2),
    "f32": lambda n: f32(n // 4),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("effort", Effort)
def test_the_largest_segment(kind, effort):
    plain = KINDS[kind](SEGMENT_MAX)
    dtype = "F32" if kind == "f32" else "BF16"
    item = encode(array(plain), dtype, effort)
    assert back(item) == plain
    assert item.stored <= len(plain) + len(plain) // 1000 + HEADER_BOUND


def test_nan_payloads_and_infinities_are_kept_in_trained_weights():
    plain = bytearray(f32(20_000))
    for at, bits in enumerate((0x7FA5A5A5, 0xFFC12345, 0x7F800000, 0xFF800000, 0x80000000, 1)):
        plain[at * 4004 : at * 4004 + 4] = bits.to_bytes(4, "little")
    item = encode(array(plain), "F32", Effort.NORMAL)
    assert item.header.codec in {2, 4}
    assert back(item) == bytes(plain)


def test_clipped_words_keep_their_exponents():
    plain = bytearray(bf16(50_000))
    plain[0:2] = (0x7F80).to_bytes(2, "little")  # the greatest exponent: most others are clipped
    item = segment._attempt(array(plain), CODECS[3], Effort.NORMAL, blake3_hex(plain), workspace())
    assert item is not None
    assert item.header.emax == 255
    assert zstd.content_size(item.frames[2]) > 49_000
    assert back(item) == bytes(plain) == decoded_by_reference(item)


def test_words_of_an_unaligned_view_are_read_as_well():
    whole = array(b"\x00" + bf16(5000))
    assert back(encode(whole[1:], "BF16", Effort.NORMAL)) == whole[1:].tobytes()


# The smallest is kept


@pytest.mark.parametrize("effort", Effort)
@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32", None])
def test_of_a_small_segment_the_smallest_candidate_is_kept(effort, dtype):
    """Up to the sample's size every candidate is tried in full."""
    for plain in (bf16(20_000), f32(10_000), upcast(10_000), noise(30_000), b"text " * 5000):
        kept = encode(array(plain), dtype, effort)
        for number in segment._CANDIDATES[effort][dtype or ""]:
            other = segment._attempt(
                array(plain), CODECS[number], effort, kept.header.blake3, workspace()
            )
            assert other is not None
            assert kept.stored <= other.stored, (kept.header.codec, number)


def test_weights_become_smaller_and_noise_does_not_grow():
    assert encode(array(bf16(500_000)), "BF16", Effort.NORMAL).stored < 0.75 * 1_000_000
    assert encode(array(upcast(200_000)), "F32", Effort.NORMAL).stored < 0.4 * 800_000
    assert encode(array(noise(500_000)), "U8", Effort.NORMAL).stored < 500_000 + 200


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [1, 20_001, 3_000_000])
def test_every_frame_has_checksum_content_size_and_a_bounded_window(dtype, count):
    for frame in encode(array(bf16(count)), dtype, Effort.NORMAL).frames:
        found = zstandard.get_frame_parameters(frame)
        assert found.has_checksum
        assert found.content_size != zstandard.CONTENTSIZE_UNKNOWN
        assert found.window_size <= 32 << 20
        assert found.dict_id == 0


def test_a_segment_that_its_sample_flattered_gets_the_better_codec():
    """The sample sees narrow exponents; what it leaves out is clipped, so that joint16 loses."""
    rng = np.random.default_rng(5)
    words = (rng.standard_normal(1 << 20).astype(np.float32).view(np.uint32) >> 16).astype(
        np.uint16
    )
    begin, end = 40_000, 120_000  # between the first two of the eight pieces
    words[begin:end] = rng.integers(0, 1 << 16, end - begin, dtype=np.uint16)
    plain = words.view(np.uint8)
    chosen = encode(plain, "BF16", Effort.NORMAL)
    promised = {
        t.number: size for t, size in segment._ranked(plain, "BF16", Effort.NORMAL, workspace())
    }
    others = [
        segment._attempt(plain, CODECS[n], Effort.NORMAL, chosen.header.blake3, workspace())
        for n in (1, 3)
    ]
    assert chosen.stored > promised[3] * 1.02, "the sample must have flattered it"
    assert chosen.stored == min(other.stored for other in others)
