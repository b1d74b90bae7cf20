"""What was lost comes back bit for bit, as far as the page promises and no further."""

from __future__ import annotations

import random
import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.faults import overwrite
from kit.journal import raw_event
from kit.repository import noise
from paritykit import guard, path_of, put_pack, sidecar_path

from archiver.archive import layout
from archiver.archive.events import TOOL
from archiver.archive.parity.reconstruct import reconstruct
from archiver.archive.parity.sidecar import shape_of
from archiver.digest import blake3_hex
from archiver.errors import DamageError

MIB = 1 << 20
BLOCK = 4096


def reconstructed(archive, name: str) -> bytes:
    out = archive.store.stage("heal")
    try:
        reconstruct(archive.store, name, out)
        reader = out.reader()
        data = bytearray(reader.size)
        reader.read_into(0, memoryview(data))
        reader.close()
        return bytes(data)
    finally:
        out.abort()


def shape_in(archive, name: str, parity: int, group: int):
    return shape_of(path_of(archive, name).stat().st_size, parity, group)


@st.composite
def damage(draw):
    """A file, a shape, and blocks to lose: at most the parity's number of each group."""
    parity, group = draw(st.integers(1, 4)), draw(st.integers(1, 6))
    size = draw(st.integers(1, 60_000))
    shape = shape_of(size, parity, group)
    lost = []
    for group_number in range(shape.groups):
        blocks = [("data", i) for i in shape.members(group_number)]
        blocks += [("parity", i) for i in shape.parity_of(group_number)]
        lost += draw(st.permutations(blocks))[:parity]
    return size, parity, group, lost


@settings(max_examples=60, deadline=None)
@given(damage(), st.integers(0, 9))
def test_any_loss_of_so_many_blocks_of_each_group_comes_back(shared_archive, drawn, seed):
    size, parity, group, lost = drawn
    data = noise(seed, size)
    name = put_pack(shared_archive, data)
    guard(shared_archive, name, parity=parity, group=group, redo=True)
    shape = shape_of(size, parity, group)
    broken, side = bytearray(data), bytearray(sidecar_path(shared_archive, name).read_bytes())
    first = (
        len(side)
        - (len(side) - shape.parity_bytes - 16 - 8) // 2  # the second header
        - 16
        - shape.parity_bytes
    )
    for kind, index in lost:
        if kind == "data":
            at = index * shape.block + random.Random(seed).randrange(shape.length(index))
            broken[at] ^= 1 << (seed % 8)
        else:
            side[first + index * shape.block] ^= 0x80
    overwrite(path_of(shared_archive, name), bytes(broken))
    overwrite(sidecar_path(shared_archive, name), bytes(side))
    try:
        assert reconstructed(shared_archive, name) == data
    finally:
        path_of(shared_archive, name).unlink()
        sidecar_path(shared_archive, name).unlink()


@settings(max_examples=30, deadline=None)
@given(st.integers(BLOCK, 200_000), st.integers(1, 3), st.integers(2, 9), st.data())
def test_a_burst_and_a_cut_tail_of_the_promised_length_come_back(
    shared_archive, size, parity, group, data
):
    plain = noise(size, size)
    name = put_pack(shared_archive, plain)
    guard(shared_archive, name, parity=parity, group=group, redo=True)
    shape = shape_of(size, parity, group)
    length = (shape.parity * shape.groups - 1) * shape.block + 1
    begin = data.draw(st.integers(0, size - 1))
    end = min(begin + length, size)
    overwrite(path_of(shared_archive, name), plain[:begin] + bytes(end - begin) + plain[end:])
    assert reconstructed(shared_archive, name) == plain
    whole = max(0, (shape.data_count - shape.parity * shape.groups) * shape.block)
    overwrite(path_of(shared_archive, name), plain[:whole])
    assert reconstructed(shared_archive, name) == plain
    path_of(shared_archive, name).unlink()
    sidecar_path(shared_archive, name).unlink()


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A file of 68 MiB and a bit in blocks of 1 MiB, as packs are, and its bytes."""
    from archiver.archive.archive import Archive

    archive = Archive.create(tmp_path_factory.mktemp("large") / "weights")
    data = noise(5, 68 * MIB + 4711)
    name = put_pack(archive, data)
    report = guard(archive, name)
    assert report.made == (name,)
    assert report.parity_bytes < 0.1 * len(data)
    return archive, name, data


def test_a_pack_comes_back_from_a_burst_and_two_blocks_of_each_group(large):
    archive, name, data = large
    assert shape_of(len(data), 2, 32).groups == 3
    broken = bytearray(data)
    begin = 20 * MIB + 77
    broken[begin : begin + 5 * MIB] = bytes(5 * MIB)
    overwrite(path_of(archive, name), bytes(broken))
    assert reconstructed(archive, name) == data
    overwrite(path_of(archive, name), data[: 63 * MIB])
    assert reconstructed(archive, name) == data
    broken = bytearray(data)
    for block in (0, 66, 1, 2, 67, 68):
        broken[block * MIB + 11] ^= 4
    overwrite(path_of(archive, name), bytes(broken))
    assert reconstructed(archive, name) == data


def test_one_block_more_is_too_much_and_says_how_much(large):
    archive, name, data = large
    broken = bytearray(data)
    for block in (0, 3, 6):
        broken[block * MIB] ^= 1
    overwrite(path_of(archive, name), bytes(broken))
    with pytest.raises(
        DamageError, match="3 of 69 blocks are bad, and 1 of 3 groups have lost more"
    ):
        reconstructed(archive, name)


def test_groups_larger_than_what_is_in_memory_at_a_time_are_coded_in_slices(large, monkeypatch):
    archive, name, data = large
    monkeypatch.setattr("archiver.archive.parity.erasure._GROUP_BYTES", 3 * MIB)
    before = sidecar_path(archive, name).read_bytes()
    overwrite(path_of(archive, name), data)
    guard(archive, name, redo=True)
    assert sidecar_path(archive, name).read_bytes() == before
    overwrite(path_of(archive, name), data[: 63 * MIB])
    assert reconstructed(archive, name) == data


@pytest.mark.parametrize("size", [1, 300, BLOCK, 2 * BLOCK])
def test_a_missing_file_comes_back_whole_if_parity_is_as_large_as_it(archive, size):
    data = noise(1, size)
    name = put_pack(archive, data)
    guard(archive, name)
    path_of(archive, name).unlink()
    assert reconstructed(archive, name) == data


def test_a_missing_file_that_is_larger_is_beyond_its_parity(archive):
    name = put_pack(archive, noise(1, 3 * BLOCK))
    guard(archive, name)
    path_of(archive, name).unlink()
    with pytest.raises(DamageError, match="is missing beyond its parity"):
        reconstructed(archive, name)


def test_a_file_that_is_whole_or_longer_comes_out_as_it_was(archive):
    data = noise(1, 50_000)
    name = put_pack(archive, data)
    guard(archive, name)
    assert reconstructed(archive, name) == data
    overwrite(path_of(archive, name), data + b"more")
    assert reconstructed(archive, name) == data


def test_an_event_comes_back(archive):
    digest = archive.record(raw_event("sighted", "2026-01-02T03:04:05Z", TOOL))
    name = layout.event_name("2026-01-02T03:04:05Z", digest)
    data = path_of(archive, name).read_bytes()
    guard(archive, name)
    path_of(archive, name).unlink()
    assert reconstructed(archive, name) == data


@pytest.mark.parametrize("how", ["first", "second", "cut", "front", "trailer", "longer"])
def test_one_good_header_is_enough(archive, how):
    data = noise(1, 100_000)
    name = put_pack(archive, data)
    guard(archive, name)
    side = bytearray(sidecar_path(archive, name).read_bytes())
    half = (len(side) - shape_in(archive, name, 2, 32).parity_bytes - 16 - 8) // 2
    if how == "first":
        side[60] ^= 1
    elif how == "front":
        side[:half] = bytes(half)
    elif how == "second":
        side[-100] ^= 1
    elif how == "cut":
        del side[-half:]
    elif how == "trailer":
        side[-1] ^= 1
    else:
        side += b"more"
    overwrite(sidecar_path(archive, name), bytes(side))
    overwrite(path_of(archive, name), data[:BLOCK] + b"?" + data[BLOCK + 1 :])
    assert reconstructed(archive, name) == data


def test_a_sidecar_that_has_lost_both_headers_says_so(archive):
    name = put_pack(archive, noise(1, 100_000))
    guard(archive, name)
    side = bytearray(sidecar_path(archive, name).read_bytes())
    side[60] ^= 1
    side[-100] ^= 1
    overwrite(sidecar_path(archive, name), bytes(side))
    with pytest.raises(DamageError, match="has lost both of its headers"):
        reconstructed(archive, name)


def test_without_a_sidecar_it_says_so(archive):
    name = put_pack(archive, noise(1, 100))
    with pytest.raises(DamageError, match="has no parity"):
        reconstructed(archive, name)
    with pytest.raises(DamageError, match="has no parity"):
        reconstructed(archive, layout.INFO)


def test_the_sidecar_of_another_file_is_not_believed(archive):
    first, second = put_pack(archive, noise(1, 9000)), put_pack(archive, noise(2, 9000))
    guard(archive, first, second)
    shutil.copy(sidecar_path(archive, second), archive.store.folder.path / "other.par")
    overwrite(sidecar_path(archive, first), sidecar_path(archive, second).read_bytes())
    with pytest.raises(DamageError, match="belongs to another file"):
        reconstructed(archive, first)


def test_what_comes_out_must_be_what_the_name_demands(archive):
    """A sidecar made on purpose, of other bytes: consistent in itself, and not the file."""
    data, other = noise(1, 9000), noise(2, 9000)
    name, decoy = put_pack(archive, data), put_pack(archive, other)
    guard(archive, decoy)
    side = sidecar_path(archive, decoy).read_bytes()
    forged = forge(side, decoy, name)
    archive.store.put_new(layout.parity_name(layout.digest_of(name)), forged)
    overwrite(path_of(archive, name), other)
    with pytest.raises(DamageError, match="another digest than its name"):
        reconstructed(archive, name)


def forge(side: bytes, old: str, new: str) -> bytes:
    """The same sidecar, told to belong to another file of the same kind."""
    from blake3 import blake3

    payload = int.from_bytes(side[4:8], "little")
    text = side[8 + 32 : 8 + payload].replace(old.encode(), new.encode())
    head = side[:8] + blake3(text).digest() + text
    return head + side[len(head) : -len(head) - 16] + head + side[-16:]


def test_zstd_accepts_a_sidecar(archive):
    name = put_pack(archive, noise(1, 70_000))
    guard(archive, name)
    done = subprocess.run(
        ["zstd", "-t", str(sidecar_path(archive, name))], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_sidecar_is_what_the_page_says(archive):
    """Read with nothing but the page: frames, header, digests, and the polynomial."""
    import json

    from blake3 import blake3
    from paritykit import value_at

    data = noise(1, 5 * BLOCK + 100)
    name = put_pack(archive, data)
    guard(archive, name, parity=2, group=3)
    side = sidecar_path(archive, name).read_bytes()

    def frame(at):
        magic, size = (int.from_bytes(side[at + i : at + i + 4], "little") for i in (0, 4))
        return magic, side[at + 8 : at + 8 + size], at + 8 + size

    first, payload, at = frame(0)
    assert first == 0x184D2A54
    assert blake3(payload[32:]).digest() == payload[:32]
    header = json.loads(payload[32:])
    assert (header["kind"], header["format"]) == ("parity", 1)
    assert header["archive"] == archive.info.archive
    assert header["file"] == name
    assert (header["size"], header["blake3"]) == (len(data), blake3_hex(data))
    assert (header["block"], header["groups"], header["parity"]) == (8192, 1, 2)
    blocks, coded, second_at = frame(at)
    assert blocks == 0x184D2A55
    second, copy, end = frame(second_at)
    assert (second, copy) == (first, payload)
    last, offset, end = frame(end)
    assert (last, int.from_bytes(offset, "little"), end) == (0x184D2A53, second_at, len(side))
    padded = data + bytes(-len(data) % 8192)
    cut = [padded[i : i + 8192] for i in range(0, len(padded), 8192)]
    assert header["data"] == [blake3_hex(block) for block in cut]
    parity = [coded[i : i + 8192] for i in range(0, len(coded), 8192)]
    assert header["blocks"] == [blake3_hex(block) for block in parity]
    for number, block in enumerate(parity, len(cut)):
        few = {i: block[:50] for i, block in enumerate(cut)}
        assert value_at(number, few) == block[:50]
