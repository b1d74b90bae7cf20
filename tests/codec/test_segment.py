"""Whatever a segment holds, it comes back; damage is refused as damage, and a lying machine is noticed."""

import random

import msgspec
import numpy as np
import pytest
import zstandard
from codeckit import (
    DTYPES,
    VECTORS,
    array,
    bf16,
    decoded_by_reference,
    encoded_by,
    f32,
    noise,
    split,
    upcast,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from archiver.archive.packs import format as pack_format
from archiver.archive.records import canonical, parse_record
from archiver.buffers import BLOCK, workspace
from archiver.codec import segment, zstd
from archiver.codec.segment import (
    SEGMENT_MAX,
    Effort,
    EncodedObject,
    ObjectHeader,
    check_header,
    decode,
    encode,
)
from archiver.codec.transforms import (
    CODECS,
    Joint16,
    Joint16Packed,
    Joint32,
    Planes16,
    Planes32,
)
from archiver.digest import blake3_hex
from archiver.errors import ArchiverError, DamageError
from archiver.tensors import cuts

SPECIAL16 = [0x0000, 0x8000, 0x7F80, 0xFF80, 0x7FC0, 0xFFC1, 0x7FAA, 0xFFFF, 0x0001, 0x8001, 0x7F7F]
HEADER_BOUND = 400
"""More than any object's header and the frames of its empty streams take."""


def test_files_are_cut_into_what_one_object_holds():
    assert cuts.SEGMENT_MAX == SEGMENT_MAX


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


class Kept:
    """A stream in memory, taken in parts."""

    def __init__(self, data):
        self.data, self.left = data, len(data)

    def take(self, count):
        assert 0 <= count <= self.left
        begin = len(self.data) - self.left
        self.left -= count
        return self.data[begin : begin + count]

    def widen(self, out):
        out[:] = self.take(len(out))

    def fill(self, out):
        out[:] = self.take(len(out))


@pytest.mark.parametrize("number", CODECS)
@settings(max_examples=60, deadline=None)
@given(plain=plain_bytes)
def test_every_transform_undoes_itself(number, plain):
    transform = CODECS[number]
    whole = len(plain) // transform.word * transform.word
    if not whole:
        return
    data = array(plain)[:whole]
    streams, emax = split(number, data)
    assert len(streams) == transform.streams
    kept = [Kept(stream.copy()) for stream in streams]
    out = np.empty(whole, np.uint8)
    outs = [out[at : at + transform.word * 50] for at in range(0, whole, transform.word * 50)]
    merged = list(transform.merge(kept, emax or 0, outs, workspace()))
    assert list(map(id, merged)) == list(map(id, outs))
    assert not any(stream.left for stream in kept)
    assert out.tobytes() == plain[:whole]


@pytest.mark.parametrize("number", CODECS)
@settings(max_examples=40, deadline=None)
@given(plain=plain_bytes)
def test_every_codec_is_read_by_the_reference(number, plain):
    item = encoded_by(number, plain)
    assert item.header.codec == number
    check_header(item.header)
    assert back(item) == plain
    assert decoded_by_reference(item) == plain


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("count", [BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 3])
def test_blocks_meet_without_a_seam(number, count):
    word = CODECS[number].word
    plain = noise(count * word, seed=count) + b"\x01" * (word - 1)
    item = encoded_by(number, plain)
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
    item = encoded_by(3, bytes(plain))
    assert item.header.emax == 255
    assert zstd.content_size(item.frames[2]) > 49_000
    assert back(item) == bytes(plain) == decoded_by_reference(item)


def test_words_of_an_unaligned_view_are_read_as_well():
    whole = array(b"\x00" + bf16(5000))
    assert back(encode(whole[1:], "BF16", Effort.NORMAL)) == whole[1:].tobytes()


# The smallest is kept


@pytest.mark.parametrize("number", CODECS)
def test_every_16_bit_word_comes_back(number):
    words = np.arange(1 << 16, dtype="<u2")
    low = np.random.default_rng(6).permutation(words)
    for plain in (words.tobytes(), np.stack([low, words], axis=1).tobytes()):
        item = encoded_by(number, plain)
        assert decoded_by_reference(item) == plain
        out = np.empty(len(plain), np.uint8)
        decode(item.header, memoryview(b"".join(item.pieces)), out)
        assert out.tobytes() == plain


@pytest.mark.parametrize("effort", Effort)
@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32", None])
def test_of_a_small_segment_the_smallest_candidate_is_kept(effort, dtype):
    """Up to the sample's size the sample is the segment."""
    for plain in (bf16(20_000), f32(10_000), upcast(10_000), noise(30_000), b"text " * 5000):
        kept = encode(array(plain), dtype, effort)
        for choice in segment._ranked(array(plain), dtype, effort, workspace()):
            other = segment._attempt(array(plain), choice, effort, kept.header.blake3, workspace())
            assert other is not None
            assert kept.stored <= other.stored * 1.001, (kept.header.codec, choice)


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
    """The sample sees narrow exponents; what it leaves out is clipped, so that joint32 loses."""
    rng = np.random.default_rng(5)
    words = rng.standard_normal(1 << 20).astype(np.float32).view(np.uint32)
    begin, end = 40_000, 300_000  # between the first two pieces of the sample
    words[begin:end] = rng.integers(0, 1 << 32, end - begin, dtype=np.uint32)
    plain = words.view(np.uint8)
    chosen = encode(plain, "F32", Effort.NORMAL)
    ranked = segment._ranked(plain, "F32", Effort.NORMAL, workspace())
    assert ranked[0].transform.number == 4
    others = {
        choice.transform.number: segment._attempt(
            plain, choice, Effort.NORMAL, chosen.header.blake3, workspace()
        )
        for choice in ranked
    }
    assert others[4].stored > ranked[0].promised * 1.02, "the sample must have flattered it"
    assert chosen.stored == others[2].stored < others[4].stored


def test_an_encoding_depends_on_the_segment_alone():
    """A repair encodes an object anew, years later and without its neighbours, to get the old pack."""
    plain = bf16(300_000)
    first = encode(array(plain), "BF16", Effort.NORMAL)
    for other in (noise(70_000), upcast(100_000), bytes(5)):
        encode(array(other), None, Effort.FAST)
    again = encode(array(plain), "BF16", Effort.NORMAL)
    assert (again.header, again.frames) == (first.header, first.frames)


# --- damage


def read(data: bytes, blake3: str, size: int) -> bytes:
    """An object as it lies in a pack, decoded as a pack's reader does."""
    magic, length = pack_format.read_prefix(data)
    assert magic == pack_format.OBJECT
    header = parse_record(data[8 : 8 + length], ObjectHeader, "The object")
    if header.blake3 != blake3 or header.size != size:
        raise DamageError("another object")
    out = np.empty(size, np.uint8)
    decode(header, memoryview(data)[8 + length :], out)
    return out.tobytes()


@pytest.mark.parametrize("vector", VECTORS["objects"], ids=lambda vector: vector["name"])
def test_good_vectors_are_decoded(vector):
    kind, _, count = vector["plain"].partition(":")
    plain = bytes(int(count)) if kind == "zeros" else bytes.fromhex(vector["plain"])
    assert read(bytes.fromhex(vector["object"]), vector["blake3"], vector["size"]) == plain


@pytest.mark.parametrize("vector", VECTORS["refused"], ids=lambda vector: vector["name"])
def test_bad_vectors_are_damage(vector):
    with pytest.raises(DamageError):
        read(bytes.fromhex(vector["object"]), vector["blake3"], vector["size"])


def item_of(number: int) -> EncodedObject:
    word = CODECS[number].word
    plain = bf16(300) + b"\x07" * (word > 1) if word < 4 else f32(300) + b"\x01\x02"
    return encoded_by(number, plain)


ITEMS = {number: item_of(number) for number in CODECS}

hostile_values = st.one_of(
    st.integers(-(2**70), 2**70),
    st.integers(-5, 20),
    st.sampled_from(["", "zz", "0", "00", "a b ", "é", "0" * 64, "F" * 64, "0" * 10_000]),
    st.none(),
    st.booleans(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.lists(st.integers(-(2**70), 2**70), max_size=6),
)


@pytest.mark.parametrize("number", CODECS)
@settings(max_examples=150, deadline=None)
@given(
    key=st.sampled_from(["blake3", "size", "codec", "frames", "emax", "tail"]),
    value=hostile_values,
)
def test_a_hostile_header_is_damage_or_still_right(number, key, value):
    item = ITEMS[number]
    changed = canonical(msgspec.json.decode(canonical(item.header)) | {key: value})
    try:
        header = parse_record(changed, ObjectHeader, "The object")
        check_header(header)
        out = np.empty(header.size, np.uint8)
        decode(header, memoryview(b"".join(item.frames)), out)
    except DamageError:
        return
    assert blake3_hex(out.data) == item.header.blake3


@pytest.mark.parametrize("number", CODECS)
def test_flipped_cut_and_swollen_frames_are_damage_or_still_right(number):
    item = ITEMS[number]
    body = b"".join(item.frames)
    rng = random.Random(number)
    for _ in range(400):
        data = bytearray(body)
        for _ in range(rng.randint(1, 3)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        if rng.random() < 0.3:
            del data[rng.randrange(len(data)) :]
        out = np.zeros(item.header.size, np.uint8)
        try:
            decode(item.header, memoryview(data), out)
        except DamageError:
            continue
        assert blake3_hex(out.data) == item.header.blake3


def frame(data: bytes, **options: object) -> bytes:
    return zstandard.ZstdCompressor(**({"write_checksum": True} | options)).compress(data)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x28\xb5\x2f\xfd",
        pack_format.skippable(0x184D2A50, b"x" * 5),
        frame(b"x" * 1001),
        frame(b"x" * 999),
        frame(b"x" * 1000, write_content_size=False),
        frame(b"x" * 1000)[:-6],
        # a frame that says it holds 2^63 bytes
        b"\x28\xb5\x2f\xfd\xe0" + (1 << 63).to_bytes(8, "little") + b"\x01\x00\x00",
    ],
)
def test_a_frame_that_is_not_what_it_should_be(body):
    header = ObjectHeader(blake3_hex(b"x" * 1000), 1000, 0, (len(body),))
    with pytest.raises(DamageError):
        decode(header, memoryview(body), np.zeros(1000, np.uint8))


def test_more_clipped_exponents_than_words_are_refused_before_they_are_unpacked():
    item = ITEMS[3]
    swollen = frame(bytes(1 << 20))
    parts = (*item.frames[:2], swollen)
    header = msgspec.structs.replace(item.header, frames=tuple(map(len, parts)))
    out = np.empty(header.size, np.uint8)
    with pytest.raises(DamageError, match="more exponents"):
        decode(header, memoryview(b"".join(parts)), out)


def test_frames_of_nothing_cannot_be_decoded_into():
    header = ObjectHeader(blake3_hex(b"ab"), 2, 0, (len(frame(b"abc")),))
    with pytest.raises(DamageError, match="content size"):
        decode(header, memoryview(frame(b"abc")), np.empty(2, np.uint8))


# Decode and compare


@pytest.mark.parametrize("broken", [Planes16, Planes32, Joint16, Joint32, Joint16Packed])
def test_a_transform_that_loses_a_bit_is_never_kept(broken, monkeypatch):
    """The next candidate is taken; codec 0 is among them."""
    honest = broken.merge

    def merge(self, streams, emax, outs, work):
        for out in honest(self, streams, emax, outs, work):
            out[len(out) // 2] ^= 1
            yield out

    monkeypatch.setattr(broken, "merge", merge)
    plain = f32(20_000) if broken.word == 4 else bf16(40_000)
    item = encode(array(plain), "F32" if broken.word == 4 else "BF16", Effort.NORMAL)
    assert item.header.codec != broken.number
    out = np.empty(len(plain), np.uint8)
    decode(item.header, memoryview(b"".join(item.frames)), out)
    assert out.tobytes() == plain


def test_a_machine_that_lies_about_everything_is_told_so(monkeypatch):
    honest = zstd._read_all

    def read_all(reader, view):
        honest(reader, view)
        view[0] ^= 1

    monkeypatch.setattr(zstd, "_read_all", read_all)
    for dtype in ("BF16", None):
        with pytest.raises(ArchiverError, match="does not decode") as caught:
            encode(array(bf16(20_000)), dtype, Effort.NORMAL)
        assert not isinstance(caught.value, DamageError)
        assert "memory" in caught.value.hint


def test_a_wrong_byte_anywhere_is_seen_by_the_comparison():
    plain = array(noise(1003))
    for at in (0, 7, 8, 999, 1000, 1002):
        other = plain.copy()
        other[at] ^= 0x80
        assert not segment._same(plain, other)
    assert segment._same(plain, plain.copy())
