"""Codec 5 against a plain reading of its rules, word by word (docs/format.md, section 4)."""

import random

import codeckit
import numpy as np
import pytest
import zstandard
from codeckit import array, bf16, encoded_by
from hypothesis import given, settings
from hypothesis import strategies as st

from archiver.buffers import BLOCK
from archiver.codec import zstd
from archiver.codec.segment import Effort, ObjectHeader, decode
from archiver.digest import blake3_hex
from archiver.errors import DamageError

SPECIAL = [0x0000, 0x8000, 0x7F80, 0xFF80, 0x7FC0, 0xFFC1, 0x7FAA, 0xFFFF, 0x0001, 0x8001, 0x7F7F]


def split(words: list[int], emax: int) -> tuple[list[int], list[int], list[int]]:
    """D1, D2 and D3 by the page's sentences alone."""
    first, second, clipped = [], [], []
    for word in words:
        sign, exponent, mantissa = word >> 15, word >> 7 & 255, word & 127
        code = emax - exponent
        if code >= 63:
            code = 63
            clipped.append(exponent)
        first.append(code * 4 + mantissa // 32)
        second.append(sign * 32 + mantissa % 32)
    quarter = (len(words) + 3) // 4
    second += [0] * (4 * quarter - len(words))
    low = [second[k * quarter : (k + 1) * quarter] for k in range(4)]
    packed = [q0 + q3 % 4 * 64 for q0, q3 in zip(low[0], low[3], strict=True)]
    packed += [q1 + q3 // 4 % 4 * 64 for q1, q3 in zip(low[1], low[3], strict=True)]
    packed += [q2 + q3 // 16 * 64 for q2, q3 in zip(low[2], low[3], strict=True)]
    return first, packed, clipped


def plain_of(words: list[int]) -> bytes:
    return b"".join(word.to_bytes(2, "little") for word in words)


def streams_of(plain: bytes) -> tuple[list[bytes], int]:
    streams, emax = codeckit.split(5, array(plain))
    return [stream.tobytes() for stream in streams], emax or 0


def frame(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True).compress(data)


def read(plain: bytes, streams: list[bytes], emax: int, tail: bytes = b"") -> bytes:
    """What is decoded out of these streams, if it is ``plain``."""
    frames = [frame(stream) for stream in streams]
    header = ObjectHeader(
        blake3_hex(plain), len(plain), 5, tuple(map(len, frames)), emax, tail.hex()
    )
    out = np.empty(len(plain), np.uint8)
    decode(header, memoryview(b"".join(frames)), out)
    return out.tobytes()


def test_a_fixed_vector():
    """Worked out with pencil and paper."""
    # 1.0, -1.0, 1.9921875, -0.00390625 (2^-8), 3.140625
    plain = bytes.fromhex("803f 80bf ff3f 80bb 4940")
    # exponents 127, 127, 127, 119, 128: emax 128; the mantissas 0, 0, 127, 0, 73
    first = bytes([1 << 2, 1 << 2, 1 << 2 | 3, 9 << 2, 0 << 2 | 2])
    # B: 0, 32, 31, 32, 9, and zeros up to eight; Q0 = 0, 32; Q1 = 31, 32; Q2 = 9, 0; Q3 = 0, 0
    packed = bytes([0, 32, 31, 32, 9, 0])
    assert streams_of(plain) == ([first, packed, b""], 128)
    assert read(plain, [first, packed, b""], 128) == plain
    # Q3 of 13 = 0b001101 and 62 = 0b111110 lends two bits to each of the others, the lowest to P0
    words = [0x3F80, 0x3F80, 0x3F80, 0x3F80, 0x3F80, 0x3F80, 0x3F8D, 0xBF9E]
    lent = bytes([1 << 6, 2 << 6, 3 << 6, 3 << 6, 0 << 6, 3 << 6])
    assert streams_of(plain_of(words)) == ([bytes(8), lent, b""], 127)
    assert read(plain_of(words), [bytes(8), lent, b""], 127) == plain_of(words)


words_of_any_kind = st.one_of(
    st.lists(st.sampled_from(SPECIAL), min_size=1, max_size=40),
    st.lists(st.integers(0, 0xFFFF), min_size=1, max_size=70),
    st.lists(st.integers(0x3A00, 0x3F80), min_size=1, max_size=70),
)


@settings(max_examples=200, deadline=None)
@given(words=words_of_any_kind)
def test_split_is_the_pages(words):
    emax = max(word >> 7 & 255 for word in words)
    wanted = [bytes(stream) for stream in split(words, emax)]
    assert streams_of(plain_of(words)) == (wanted, emax)


@settings(max_examples=200, deadline=None)
@given(words=words_of_any_kind, emax=st.integers(0, 255), tail=st.binary(max_size=1))
def test_merge_is_the_pages(words, emax, tail):
    """Also of a writer that chose ``emax`` otherwise, which clips more words."""
    words = [word for word in words if word >> 7 & 255 <= emax]
    plain = plain_of(words) + tail
    if plain:
        assert read(plain, [bytes(stream) for stream in split(words, emax)], emax, tail) == plain


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 4 * BLOCK - 1, 4 * BLOCK + 5])
def test_quarters_of_any_length(count):
    draw = random.Random(count)
    words = [draw.choice([draw.randrange(0x3A00, 0x3F80), *SPECIAL]) for _ in range(count)]
    plain = plain_of(words)
    emax = max((word >> 7 & 255 for word in words), default=0)
    assert streams_of(plain)[0] == [bytes(stream) for stream in split(words, emax)]
    for tail in (b"", b"\xa5"):
        if plain + tail:
            assert read(plain + tail, streams_of(plain)[0], emax, tail) == plain + tail


def test_words_are_clipped_in_their_order_across_blocks_and_quarters():
    """A block without a clipped word lies between two that have some."""
    words = np.frombuffer(bytearray(bf16(3 * BLOCK + 1)), "<u2").copy()
    words[[5, BLOCK - 1, 2 * BLOCK + 3, -1]] = [0x0000, 0x8001, 0x0080, 0x8100]
    plain = words.tobytes()
    streams, emax = streams_of(plain)
    assert list(streams[2]) == [0, 0, 1, 2]
    assert read(plain, streams, emax) == plain


@pytest.mark.parametrize("wrong", [-3, -1, 1, 3])
@pytest.mark.parametrize("stream", [0, 1])
def test_a_stream_of_another_length_is_damage(stream, wrong):
    plain = bf16(1001)
    streams, emax = streams_of(plain)
    streams[stream] = (streams[stream] + bytes(3))[: len(streams[stream]) + wrong]
    with pytest.raises(DamageError, match="content size"):
        read(plain, streams, emax)


def test_as_many_bytes_as_words_are_no_packed_stream():
    plain = bf16(1000)
    a, _, clipped = streams_of(plain)[0]
    with pytest.raises(DamageError, match="content size"):
        read(plain, [a, bytes(1000), clipped], 127)


@pytest.mark.parametrize(("exponents", "says"), [(2, "fewer"), (4, "more")])
def test_another_number_of_clipped_exponents_is_damage(exponents, says):
    plain = plain_of([0x3F80, 0x0000, 0x0001, 0x8000, 0x3F00])
    a, packed, clipped = streams_of(plain)[0]
    assert len(clipped) == 3
    with pytest.raises(DamageError, match=says):
        read(plain, [a, packed, bytes(exponents)], 127)


@pytest.mark.parametrize("emax", [0, 6, 61])
def test_an_exponent_below_zero_is_damage(emax):
    """Whatever its digest: another reader would give other bytes."""
    plain = plain_of([emax << 7, 0x007F, emax << 7, 0x8000])  # from emax down to 0
    (a, packed, clipped), found = streams_of(plain)
    assert (found, clipped) == (emax, b"")
    assert read(plain, [a, packed, clipped], emax) == plain
    below = bytes([emax + 1 << 2]) + a[1:]
    with pytest.raises(DamageError, match="below zero"):
        read(plain, [below, packed, clipped], emax)


@pytest.mark.parametrize("effort", Effort)
def test_weights_take_no_coder_for_their_packed_bits(effort):
    item = encoded_by(5, bf16(400_000), effort)
    packed = 3 * 100_000
    assert packed < item.header.frames[1] < packed + 40
    assert zstd.content_size(item.frames[1]) == packed
