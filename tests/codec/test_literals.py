"""Streams that are coded without matches, and where the efforts differ: BF16."""

import numpy as np
import pytest
import zstandard
from codeckit import array, bf16, decoded_by_reference, noise

from archiver.codec import zstd
from archiver.codec.segment import Effort, encode
from archiver.codec.transforms import CODECS


def exponents(count: int, seed: int = 1) -> bytes:
    """As of trained weights: few values, so that a search finds runs of four all the time."""
    return np.frombuffer(bf16(count, seed), "<u2").__rshift__(7).astype(np.uint8).tobytes()


def blocks_of(frame: bytes) -> list[tuple[int, bytes]]:
    """Type and body of each block of a frame that has content size and checksum (RFC 8878, 3.1.1)."""
    at = zstandard.frame_header_size(frame)
    blocks, last = [], False
    while not last:
        head = int.from_bytes(frame[at : at + 3], "little")
        last, kind, size = bool(head & 1), head >> 1 & 3, head >> 3
        size = 1 if kind == 1 else size
        blocks.append((kind, frame[at + 3 : at + 3 + size]))
        at += 3 + size
    assert at + 4 == len(frame)
    return blocks


def sequences_of(block: bytes) -> int:
    """How many matches a compressed block has (RFC 8878, 3.1.1.3)."""
    form = block[0] >> 2 & 3
    head, bits = ((3, 10), (3, 10), (4, 14), (5, 18))[form]
    assert block[0] & 3 in (2, 3), "literals by Huffman, with a table of their own or the last one"
    coded = int.from_bytes(block[:head], "little") >> 4 + bits
    count = block[head + coded]
    return count if count < 128 else (count - 128 << 8) + block[head + coded + 1]


def decoded(frame: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompress(frame)


def in_pieces(plain: bytes, step: int, stream: int = 0) -> bytes:
    coder = zstd.coder(zstd.HUFFMAN, len(plain), stream)
    for at in range(0, len(plain), step):
        coder.write(array(plain[at : at + step]))
    return b"".join(coder.pieces())


@pytest.mark.parametrize("step", [100_000, 512 << 10, 3 << 20])
def test_nothing_but_literals_is_coded(step):
    plain = exponents(2_000_000)
    frame = in_pieces(plain, step)
    assert decoded(frame) == plain
    kinds = [kind for kind, _ in blocks_of(frame)]
    assert set(kinds) == {2}
    assert sum(sequences_of(block) for _, block in blocks_of(frame)) == 0
    entropy = np.unique(array(plain), return_counts=True)[1] / len(plain)
    least = -(entropy * np.log2(entropy)).sum() / 8
    assert least < len(frame) / len(plain) < least * 1.03


@pytest.mark.parametrize("size", [0, 1, 255, 256, 70_000, (128 << 10) + 1])
def test_a_frame_says_how_long_its_content_is(size):
    for frame in (
        zstd.compress(array(exponents(size)), zstd.HUFFMAN),
        in_pieces(exponents(size), 1000),
    ):
        assert decoded(bytes(frame)) == exponents(size)
        parameters = zstandard.get_frame_parameters(frame)
        assert (parameters.content_size, parameters.has_checksum) == (size, True)
        assert parameters.window_size <= max(size, 128 << 10)


def test_a_frame_that_was_given_up_does_not_spoil_the_next():
    coder = zstd.coder(zstd.HUFFMAN, 500_000, 3)
    coder.write(array(exponents(300_000)))
    plain = exponents(400_000, seed=2)
    assert decoded(in_pieces(plain, 100_000, stream=3)) == plain


def test_streams_may_be_coded_by_turns():
    plains = [exponents(600_000, seed) for seed in (3, 4)]
    coders = [zstd.coder(zstd.HUFFMAN, 600_000, stream) for stream in (0, 1)]
    for at in range(0, 600_000, 50_000):
        for coder, plain in zip(coders, plains, strict=True):
            coder.write(array(plain[at : at + 50_000]))
    assert [decoded(b"".join(coder.pieces())) for coder in coders] == plains


def test_a_library_without_that_option_searches_and_loses_little(monkeypatch):
    plain = exponents(1_000_000)
    literals = in_pieces(plain, 250_000)
    monkeypatch.setattr(zstd, "_LITERAL_MODE", 1999)
    monkeypatch.setattr(zstd, "_own", zstd._Contexts())
    searched = in_pieces(plain, 250_000)
    assert decoded(searched) == plain
    assert sum(sequences_of(block) for _, block in blocks_of(searched)) > 0
    assert len(literals) < len(searched) < 1.02 * len(literals)


def test_fast_stores_mantissas_as_they_are_and_normal_makes_less_of_them():
    plain = bf16(4_000_000)
    fast, normal = (encode(array(plain), "BF16", effort) for effort in (Effort.FAST, Effort.NORMAL))
    assert (CODECS[fast.header.codec].name, CODECS[normal.header.codec].name) == (
        "planes16",
        "joint16p",
    )
    assert {kind for kind, _ in blocks_of(fast.frames[1])} == {0}
    assert normal.stored < fast.stored < 1.01 * normal.stored
    assert decoded_by_reference(fast) == decoded_by_reference(normal) == plain


def test_what_repeats_is_not_left_to_literals():
    """Its sample tells; else rows that a tensor has many times would be stored as often."""
    row = bf16(3000)
    for effort in Effort:
        assert encode(array(row * 300), "BF16", effort).stored < len(row) * 3
    assert encode(array(noise(100_000)), "BF16", Effort.FAST).stored < 100_200
