"""Damaged objects are refused as damage and as nothing else; a lying machine is noticed."""

import random

import msgspec
import numpy as np
import pytest
import zstandard
from codeckit import VECTORS, array, bf16, f32, noise
from hypothesis import given, settings
from hypothesis import strategies as st

from archiver.archive.packs import frames
from archiver.archive.records import canonical, parse_record
from archiver.codec import segment, zstd
from archiver.codec.segment import Effort, EncodedObject, ObjectHeader, check_header, decode, encode
from archiver.codec.transforms import CODECS, Joint16, Joint32, Planes16, Planes32
from archiver.codec.workspace import workspace
from archiver.digest import blake3_hex
from archiver.errors import ArchiverError, DamageError


def read(data: bytes, blake3: str, size: int) -> bytes:
    """An object as it lies in a pack, decoded as a pack's reader does."""
    magic, length = frames.read_prefix(data)
    assert magic == frames.OBJECT
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
    item = segment._attempt(
        array(plain), CODECS[number], Effort.FAST, blake3_hex(plain), workspace()
    )
    assert item is not None
    return item


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
        frames.skippable(0x184D2A50, b"x" * 5),
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
    with pytest.raises(ValueError, match="content size"):
        zstd.decompress_into(frame(b"abc"), np.empty(2, np.uint8))


# Decode and compare


@pytest.mark.parametrize("broken", [Planes16, Planes32, Joint16, Joint32])
def test_a_transform_that_loses_a_bit_is_never_kept(broken, monkeypatch):
    """The next candidate is taken; codec 0 is among them."""
    honest = broken.merge

    def merge(self, streams, emax, out, work):
        honest(self, streams, emax, out, work)
        out[len(out) // 2] ^= 1

    monkeypatch.setattr(broken, "merge", merge)
    plain = f32(20_000) if broken.word == 4 else bf16(40_000)
    item = encode(array(plain), "F32" if broken.word == 4 else "BF16", Effort.NORMAL)
    assert item.header.codec != broken.number
    out = np.empty(len(plain), np.uint8)
    decode(item.header, memoryview(b"".join(item.frames)), out)
    assert out.tobytes() == plain


def test_a_machine_that_lies_about_everything_is_told_so(monkeypatch):
    honest = zstd.decompress_into

    def decompress_into(body, out):
        honest(body, out)
        out[:1] ^= 1

    monkeypatch.setattr(zstd, "decompress_into", decompress_into)
    monkeypatch.setattr(segment.zstd, "decompress_into", decompress_into)
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
