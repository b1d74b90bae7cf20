"""Of a pack's frames only those with its data are needed to read an object (docs/format.md, section 3)."""

import struct
from itertools import accumulate, pairwise

import msgspec
import numpy as np
import pytest
from archivekit import pack_path
from kit import handmade
from kit.repository import bf16, noise

from archiver.archive.archive import Archive
from archiver.archive.check.pack_reading import ExpectedPack, check_pack
from archiver.archive.packs.format import IndexEntry
from archiver.archive.packs.index import ObjectIndex
from archiver.archive.packs.reader import PackReader
from archiver.archive.packs.writer import PackWriter
from archiver.archive.records import parse_record
from archiver.codec.segment import EncodedObject, ObjectHeader
from archiver.digest import blake3_hex
from archiver.errors import DamageError

PLAINS = [b"{}\n", bf16(2, 300) + b"\x07", noise(3, 700)]
NUMBERS = [0, 3, 0]
TRUTH = {blake3_hex(plain): plain for plain in PLAINS}
BLOCK = 4096


class Memory:
    """A file in memory, of which a medium does not give every byte."""

    def __init__(self, data: bytes, unreadable: range = range(0)) -> None:
        self.data, self.unreadable, self.size = data, unreadable, len(data)

    def read_into(self, offset: int, buffer: memoryview) -> int:
        if offset < self.unreadable.stop and self.unreadable.start < offset + len(buffer):
            raise DamageError("The pack cannot be read: Input/output error.")
        piece = self.data[offset : offset + len(buffer)]
        buffer[: len(piece)] = piece
        return len(piece)

    def fresh(self) -> None:
        pass

    def close(self) -> None:
        pass


class Opener:
    def __init__(self, memory: Memory) -> None:
        self.reader = PackReader(memory, "The pack")

    def pack(self, pack: str) -> PackReader:
        del pack
        return self.reader


def encoded(plain: bytes, number: int = 0) -> EncodedObject:
    stored = handmade.object_frames(plain, number, emax=125)
    (size,) = struct.unpack_from("<I", stored, 4)
    header = parse_record(stored[8 : 8 + size], ObjectHeader, "The object")
    ends = [8 + size + end for end in accumulate(header.frames, initial=0)]
    return EncodedObject(header, tuple(stored[begin:end] for begin, end in pairwise(ends)))


def lost_objects(memory: Memory, truth: dict[str, bytes] = TRUTH) -> set[str]:
    """The objects that do not come out of a pack; what comes out is right."""
    found, lost = ObjectIndex(Opener(memory), ["00" * 32]), set()
    for digest, plain in truth.items():
        out = np.empty(len(plain), np.uint8)
        try:
            found.read(digest, len(plain), out)
        except DamageError:
            lost.add(digest)
        else:
            assert out.tobytes() == plain
    return lost


def written(archive: Archive, plains: list[bytes] = PLAINS, *, short: bool = False) -> bytes:
    writer = PackWriter(archive.store, archive.info, short_entries=short)
    for plain, number in zip(
        plains, NUMBERS if plains is PLAINS else [0] * len(plains), strict=True
    ):
        writer.append(encoded(plain, number))
    path = pack_path(archive.store.path, writer.finish()[0])
    return path.read_bytes()


def entries_of(data: bytes) -> tuple[IndexEntry, ...]:
    return PackReader(Memory(data), "The pack").index_at_trailer()


def frames_of(data: bytes) -> dict[str, range]:
    """Name -> where the head, each object's header, the index and the trailer lie."""
    (index,) = struct.unpack("<Q", data[-8:])
    entries = entries_of(data)
    frames = {"head": range(entries[0].offset)}
    for number, entry in enumerate(entries):
        (size,) = struct.unpack_from("<I", data, entry.offset + 4)
        frames[f"header {number}"] = range(entry.offset, entry.offset + 8 + size)
    return frames | {
        "index": range(index, len(data) - 16),
        "trailer": range(len(data) - 16, len(data)),
    }


def other(digest: str) -> bytes:
    """Another digest, as it would be written."""
    return digest[:-1].encode() + b"%x" % (int(digest[-1], 16) ^ 1)


NAMES = ["head", *(f"header {number}" for number in range(len(PLAINS))), "index", "trailer"]


@pytest.fixture
def data(archive) -> bytes:
    return written(archive)


def test_an_entry_says_all_that_the_header_says(data):
    reader = PackReader(Memory(data), "The pack")
    for entry in entries_of(data):
        assert entry.header == reader.object_header(entry.offset)[0]
    joint = entries_of(data)[1]
    assert (joint.codec, len(joint.frames), joint.tail) == (3, 3, "07")
    assert joint.emax is not None


@pytest.mark.parametrize("name", NAMES)
def test_no_flipped_bit_outside_of_the_data_costs_an_object(data, name):
    for at in frames_of(data)[name]:
        for bit in range(8):
            spoilt = bytearray(data)
            spoilt[at] ^= 1 << bit
            assert lost_objects(Memory(bytes(spoilt))) == set(), (at, bit)


class MemoryStore:
    """A store of one pack."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def stat(self, name: str) -> int:
        del name
        return len(self.data)

    def open(self, name: str) -> Memory:
        del name
        return Memory(self.data)


@pytest.mark.parametrize("name", NAMES)
def test_an_audit_sees_each_flipped_bit_and_misses_no_object(data, name):
    pack = blake3_hex(data)
    expected = ExpectedPack(pack, frozenset({len(data)}), ())
    assert check_pack(MemoryStore(data), expected, lambda _size: None).whole
    for at in frames_of(data)[name]:
        spoilt = bytearray(data)
        spoilt[at] ^= 1 << at % 8
        result = check_pack(MemoryStore(bytes(spoilt)), expected, lambda _size: None)
        assert result.blake3 != pack, at
        sound = {result.sound[i : i + 32].hex() for i in range(0, len(result.sound), 32)}
        assert sound >= TRUTH.keys(), at
        assert {damaged.blake3 for damaged in result.damaged} & TRUTH.keys() == set(), at
        assert not result.unstable


@pytest.mark.parametrize("short", [False, True], ids=["eight elements", "five elements"])
@pytest.mark.parametrize("filling", [b"\0", b"\xff", b"\x51\x2a\x4d\x18"], ids=repr)
@pytest.mark.parametrize("name", NAMES)
def test_no_lost_frame_outside_of_the_data_costs_an_object(archive, name, filling, short):
    data = bytearray(written(archive, short=short))
    frame = frames_of(data)[name]
    number = int(name.partition(" ")[2] or -1)
    data[frame.start : frame.stop] = (filling * len(frame))[: len(frame)]
    allowed = {list(TRUTH)[number]} if short and number >= 0 else set()
    assert lost_objects(Memory(bytes(data))) == allowed


@pytest.mark.parametrize("name", NAMES)
def test_in_an_older_pack_a_flipped_bit_costs_the_object_of_its_header_at_most(archive, name):
    data = written(archive, short=True)
    number = int(name.partition(" ")[2] or -1)
    allowed = {list(TRUTH)[number]} if number >= 0 else set()
    for at in frames_of(data)[name]:
        spoilt = bytearray(data)
        spoilt[at] ^= 1 << at % 8
        assert lost_objects(Memory(bytes(spoilt))) <= allowed, at


def test_in_an_older_pack_the_name_in_a_header_is_a_hint(archive):
    data = written(archive, short=True)
    for digest in TRUTH:
        assert lost_objects(Memory(data.replace(digest.encode(), other(digest), 1))) == set()


@pytest.mark.parametrize("short", [False, True], ids=["eight elements", "five elements"])
def test_without_an_index_an_object_is_found_by_its_content(archive, short):
    data = written(archive, short=short)
    data = data[: frames_of(data)["index"].start]
    for digest in TRUTH:
        assert lost_objects(Memory(data.replace(digest.encode(), other(digest)))) == set()


def test_where_index_and_header_both_misname_it_an_object_is_found_by_its_content(data):
    for digest in TRUTH:
        spoilt = data.replace(digest.encode(), other(digest), 1)
        spoilt = spoilt.replace(
            digest.encode(), digest[:-1].encode() + b"%x" % (int(digest[-1], 16) ^ 2)
        )
        assert digest.encode() not in spoilt
        assert lost_objects(Memory(spoilt)) == set()


def test_an_unreadable_block_costs_the_objects_with_data_in_it(archive):
    plains = [noise(seed, 3 * BLOCK) for seed in range(4)]
    truth = {blake3_hex(plain): plain for plain in plains}
    data = written(archive, plains)
    edges = [*range(0, len(data), BLOCK), len(data)]
    for begin, end in pairwise(edges):
        hit = {
            entry.blake3
            for entry in entries_of(data)
            if entry.offset + entry.stored - sum(entry.frames) < end
            and begin < entry.offset + entry.stored
        }
        assert lost_objects(Memory(data, range(begin, end)), truth) == hit


@pytest.mark.parametrize(
    "lie",
    [
        {"frames": (2**52,)},
        {"frames": (0,) * 9},
        {"frames": (1, 2, 3, 4)},
        {"frames": ()},
        {"emax": 2**70},
        {"emax": -5},
        {"tail": "zz"},
        {"tail": "00" * 99},
        {"codec": 2**40},
        {"codec": 77},
        {"size": 2**50},
    ],
    ids=str,
)
def test_an_entry_that_lies_is_put_right_by_the_header(archive, lie):
    writer = PackWriter(archive.store, archive.info)
    for plain, number in zip(PLAINS, NUMBERS, strict=True):
        writer.append(encoded(plain, number))
    entry = msgspec.structs.replace(writer._entries[1], **lie)
    writer._listed[1] = msgspec.json.encode(entry)
    data = pack_path(archive.store.path, writer.finish()[0]).read_bytes()
    assert entries_of(data)[1] == entry
    assert lost_objects(Memory(data)) == set()
