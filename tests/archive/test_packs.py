"""Packs (docs/format.md, section 3): whole, damaged, hostile, unfinished."""

import os
import random
import re
import shutil
import struct
import subprocess

import msgspec
import numpy as np
import pytest
from archivekit import PLAINS, array, pack_path, reading, write_pack
from kit.faults import overwrite
from kit.repository import noise

from archiver.archive.archive import Archive
from archiver.archive.ingest.resume import salvage
from archiver.archive.layout import pack_name
from archiver.archive.packs import format as pack_format
from archiver.archive.packs.format import STORED_MAX, IndexEntry, PackIndex
from archiver.archive.packs.index import ObjectIndex
from archiver.archive.packs.writer import PackWriter
from archiver.archive.quarantine import QuarantinedPacks, move_to_quarantine
from archiver.archive.records import canonical
from archiver.codec.segment import Effort, encode
from archiver.digest import blake3_hex
from archiver.errors import DamageError
from archiver.storage.store import Reader

DIGESTS = [blake3_hex(plain) for plain in PLAINS]


@pytest.fixture
def pack(archive) -> str:
    return write_pack(archive)


def read(archive: Archive, entry: IndexEntry, pack: str) -> bytes:
    out = np.empty(entry.size, np.uint8)
    archive.pack(pack).read(entry, entry.size, out)
    return out.tobytes()


def test_what_was_written_is_read(archive, pack):
    reader = archive.pack(pack)
    index = reader.index()
    assert [entry.blake3 for entry in index] == DIGESTS
    assert [read(archive, entry, pack) for entry in index] == PLAINS
    assert reader.head().archive == archive.info.archive
    assert tuple(reader.walk()) == index
    assert [reader.copy(entry).header.blake3 for entry in index] == DIGESTS


def test_a_pack_is_named_by_its_bytes_and_read_only(archive, root, pack):
    path = pack_path(root, pack)
    assert blake3_hex(path.read_bytes()) == pack
    assert path.stat().st_mode & 0o777 == 0o444


def test_the_layout_is_the_one_of_the_page(archive, root, pack):
    data = pack_path(root, pack).read_bytes()
    assert data[:4] == bytes.fromhex("502a4d18")
    magic, size, offset = struct.unpack("<IIQ", data[-16:])
    assert (magic, size) == (0x184D2A53, 8)
    assert data[offset : offset + 4] == bytes.fromhex("522a4d18")
    first = archive.pack(pack).index()[0]
    assert data[first.offset : first.offset + 4] == bytes.fromhex("512a4d18")
    last = archive.pack(pack).index()[-1]
    assert last.offset + last.stored == offset


@pytest.mark.skipif(
    shutil.which("zstd") is None and not os.environ.get("CI"),  # where CI is set, it fails
    reason="the program zstd is not installed",
)
def test_the_program_zstd_accepts_a_pack_and_sees_a_flipped_bit(archive, root, pack, tmp_path):
    copy = tmp_path / "copy.zst"
    shutil.copy(pack_path(root, pack), copy)
    assert subprocess.run(["zstd", "-tq", copy], check=False).returncode == 0
    unpacked = subprocess.run(["zstd", "-dcq", copy], check=True, capture_output=True).stdout
    assert len(unpacked) >= len(PLAINS[0])
    copy.chmod(0o644)
    data = bytearray(copy.read_bytes())
    entry = archive.pack(pack).index()[4]
    data[entry.offset + entry.stored - 3] ^= 1
    copy.write_bytes(data)
    done = subprocess.run(["zstd", "-tq", copy], check=False, capture_output=True)
    assert done.returncode != 0


# Lost and hostile indexes


def spoil(root, pack, change) -> None:
    path = pack_path(root, pack)
    data = bytearray(path.read_bytes())
    overwrite(path, bytes(change(data)))


def without_end(data: bytearray) -> bytearray:
    return data[:-20]


def wild_trailer(data: bytearray) -> bytearray:
    data[-8:] = b"\xff" * 8
    return data


def trailer_into_objects(data: bytearray) -> bytearray:
    data[-8:] = struct.pack("<Q", 0)
    return data


def huge_index(data: bytearray) -> bytearray:
    (offset,) = struct.unpack("<Q", data[-8:])
    data[offset + 4 : offset + 8] = b"\xff" * 4
    return data


def torn_json(data: bytearray) -> bytearray:
    (offset,) = struct.unpack("<Q", data[-8:])
    data[offset + 40] ^= 0xFF
    return data


def without_trailer(data: bytearray) -> bytearray:
    return data[:-16]


LOST = [without_end, huge_index, torn_json]
FOUND = [without_trailer, wild_trailer, trailer_into_objects]


@pytest.mark.parametrize("change", LOST + FOUND)
def test_a_pack_that_lost_its_index_is_walked(archive, root, pack, change):
    entries = archive.pack(pack).index()
    spoil(root, pack, change)
    reader = Archive.open(root).pack(pack)
    with pytest.raises(DamageError):
        reader.index_at_trailer()
    if change in FOUND:
        assert reader.index() == entries
    else:
        with pytest.raises(DamageError):
            reader.index()
    found = ObjectIndex(archive, [pack])
    for plain, digest in zip(PLAINS, DIGESTS, strict=True):
        out = np.empty(len(plain), np.uint8)
        found.read(digest, len(plain), out)
        assert out.tobytes() == plain


@pytest.mark.parametrize("kept", [0, 8], ids=["all", "all but the magic"])
@pytest.mark.parametrize("lost", range(5))
def test_walking_goes_on_past_a_damaged_object(archive, root, pack, lost, kept):
    """Section 3: the next object is found by searching for the bytes that begin it."""
    entry = archive.pack(pack).index()[lost]

    def change(data: bytearray) -> bytearray:
        data[entry.offset + kept : entry.offset + 40] = b"\xaa" * (40 - kept)
        return data[:-20]

    spoil(root, pack, change)
    found = [one.blake3 for one in Archive.open(root).pack(pack).walk()]
    assert found == [digest for digest in DIGESTS if digest != DIGESTS[lost]]


def test_walking_goes_on_without_a_head(archive, root, pack):
    spoil(root, pack, lambda data: b"\0" * 8 + data[8:-20])
    assert [one.blake3 for one in Archive.open(root).pack(pack).walk()] == DIGESTS


def test_a_header_that_lies_about_its_frames_does_not_hide_the_next_object(archive, root):
    plain = noise(9, 600)
    item = encode(array(plain), None, Effort.FAST)
    lying = msgspec.structs.replace(item.header, frames=(item.header.frames[0] + 300,))
    staged = archive.store.stage("pack")
    staged.write(pack_format.skippable(pack_format.HEAD, b"{}"))
    staged.write(pack_format.skippable(pack_format.OBJECT, canonical(lying)) + item.frames[0])
    staged.write(pack_format.skippable(pack_format.OBJECT, canonical(item.header)) + item.frames[0])
    staged.publish("packs/aa/test.pack")
    reader = reading(root / "packs/aa/test.pack", archive)
    assert reader.copy(list(reader.walk())[-1]).header == item.header


def test_a_pack_inside_a_pack_is_not_taken_for_its_objects(archive, root, pack):
    inner = pack_path(root, pack).read_bytes()
    outer = write_pack(archive, [inner, b"after"])
    found = [entry.blake3 for entry in archive.pack(outer).walk()]
    assert found == [blake3_hex(inner), blake3_hex(b"after")]


class Watched:
    """A reader that notes the largest buffer it was asked to fill."""

    def __init__(self, inner: Reader) -> None:
        self.inner, self.size, self.largest = inner, inner.size, 0

    def read_into(self, offset: int, buffer: memoryview) -> int:
        assert offset >= 0
        self.largest = max(self.largest, len(buffer))
        return self.inner.read_into(offset, buffer)

    def fresh(self) -> None:
        self.inner.fresh()

    def close(self) -> None:
        self.inner.close()


HOSTILE = [
    {"offset": -1},
    {"offset": 2**62},
    {"offset": 2**80},
    {"stored": -1},
    {"stored": 0},
    {"stored": 7},
    {"stored": STORED_MAX + 1},
    {"stored": STORED_MAX},
    {"stored": 2**80},
    {"size": -1},
    {"size": 2**50},
    {"blake3": "0" * 64},
]


@pytest.mark.parametrize("lie", HOSTILE, ids=str)
@pytest.mark.parametrize("way", ["read", "copy"])
def test_a_hostile_index_entry_is_damage_and_reads_are_bounded(archive, root, pack, lie, way):
    entry = msgspec.structs.replace(archive.pack(pack).index()[1], **lie)
    reader = reading(pack_path(root, pack), archive)
    watched = reader._reader = Watched(reader._reader)
    harmless = way == "copy" and "size" in lie  # the header says how much it is
    if harmless:
        assert reader.copy(entry).header.blake3 == DIGESTS[1]
    else:
        out = np.empty(min(max(entry.size, 0), 9000), np.uint8)
        with pytest.raises(DamageError):
            reader.copy(entry) if way == "copy" else reader.read(entry, entry.size, out)
    assert watched.largest <= STORED_MAX


@pytest.mark.parametrize(
    "row",
    [
        ["0" * 64, 0, 0, 0],
        ["0" * 63, 0, 0, 0, 0],
        ["G" * 64, 0, 0, 0, 0],
        ["0" * 64, 0.5, 0, 0, 0],
        ["0" * 64, None, 0, 0, 0],
        "row",
        {},
    ],
    ids=str,
)
def test_an_index_of_another_shape_is_damage(archive, root, row):
    staged = archive.store.stage("pack")
    staged.write(pack_format.skippable(pack_format.HEAD, b"{}"))
    body = canonical({"kind": "index", "objects": [row]})
    staged.write(pack_format.skippable(pack_format.INDEX, body) + pack_format.trailer(10))
    staged.publish("packs/aa/test.pack")
    with pytest.raises(DamageError):
        reading(root / "packs/aa/test.pack", archive).index()


def test_an_index_of_another_kind_is_damage(archive, root):
    staged = archive.store.stage("pack")
    staged.write(pack_format.skippable(pack_format.HEAD, b"{}"))
    body = canonical(msgspec.structs.replace(PackIndex(()), kind="pack"))
    staged.write(pack_format.skippable(pack_format.INDEX, body) + pack_format.trailer(10))
    staged.publish("packs/aa/test.pack")
    with pytest.raises(DamageError, match="kind"):
        reading(root / "packs/aa/test.pack", archive).index()


@pytest.mark.parametrize("size", [0, 1, 7, 8, 15, 16, 17, 40])
def test_a_file_too_short_to_be_a_pack_is_damage(archive, root, size):
    staged = archive.store.stage("pack")
    staged.write(b"\x50" * size)
    staged.publish("packs/aa/test.pack")
    reader = reading(root / "packs/aa/test.pack", archive)
    with pytest.raises(DamageError):
        reader.index()
    with pytest.raises(DamageError):
        reader.head()
    assert list(reader.walk()) == []


def test_whatever_bytes_change_only_damage_is_raised_and_nothing_wrong_is_read(archive, root, pack):
    path = pack_path(root, pack)
    good = path.read_bytes()
    rng = random.Random(5)
    truth = dict(zip(DIGESTS, PLAINS, strict=True))
    for _ in range(250):
        data = bytearray(good)
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        if rng.random() < 0.2:
            del data[rng.randrange(len(data)) :]
        overwrite(path, bytes(data))
        opened = Archive.open(root)
        found = ObjectIndex(opened, [pack])
        for digest, plain in truth.items():
            out = np.empty(len(plain), np.uint8)
            try:
                found.read(digest, len(plain), out)
            except DamageError:
                continue
            assert out.tobytes() == plain


# ObjectIndex


def test_a_map_over_packs_finds_the_first_and_goes_on_past_a_missing_one(archive, pack):
    other = write_pack(archive, [PLAINS[1], b"only here"])
    gone = "ab" * 32
    found = ObjectIndex(archive, [pack, gone, other])
    assert all(found.find(digest)[0] == pack for digest in DIGESTS)
    assert found.find(blake3_hex(b"only here"))[0] == other
    assert found.find("00" * 32) is None
    with pytest.raises(DamageError, match="no readable pack"):
        found.read("00" * 32, 5, np.empty(5, np.uint8))
    with pytest.raises(DamageError, match="another size"):
        found.read(DIGESTS[1], 5, np.empty(5, np.uint8))


def test_any_good_copy_will_do(archive, root, pack):
    """Section 3: the same object may lie in several packs."""
    other = write_pack(archive, [PLAINS[1], b"only here"])
    entry = archive.pack(pack).index()[1]

    def change(data: bytearray) -> bytearray:
        data[entry.offset + entry.stored - 9] ^= 0xFF
        return data

    spoil(root, pack, change)
    for order in ([pack, other], [other, pack]):
        out = np.empty(entry.size, np.uint8)
        ObjectIndex(Archive.open(root), order).read(DIGESTS[1], entry.size, out)
        assert out.tobytes() == PLAINS[1]


def test_damage_in_quarantine_is_named_by_the_name_there(archive, root, pack):
    entry = archive.pack(pack).index()[1]

    def change(data: bytearray) -> bytearray:
        data[entry.offset + entry.stored - 9] ^= 0xFF
        return data

    spoil(root, pack, change)
    where = move_to_quarantine(archive.store, pack_name(pack))
    quarantined = QuarantinedPacks(archive.store)
    found = ObjectIndex(quarantined, quarantined.names())
    with pytest.raises(DamageError) as caught:
        found.read(DIGESTS[1], entry.size, np.empty(entry.size, np.uint8))
    assert (caught.value.pack, caught.value.path) == (pack, where)
    with pytest.raises(DamageError, match=re.escape(f"{where} lists another size")):
        found.read(DIGESTS[0], 1, np.empty(1, np.uint8))


def test_an_index_that_lies_about_an_offset_is_put_right_by_the_frames(archive, root):
    writer = PackWriter(archive.store, archive.info)
    for plain in PLAINS:
        writer.append(encode(array(plain), "BF16", Effort.NORMAL))
    honest = writer._entries[2]
    writer._entries[2] = msgspec.structs.replace(honest, offset=honest.offset + 1)
    pack, _ = writer.finish()
    out = np.empty(len(PLAINS[2]), np.uint8)
    ObjectIndex(archive, [pack]).read(DIGESTS[2], len(PLAINS[2]), out)
    assert out.tobytes() == PLAINS[2]


# Leftovers


def leftover(root, data: bytes) -> None:
    """An unfinished pack of a run that died."""
    import socket

    host = "".join(c for c in socket.gethostname().lower() if c.isalnum()) or "host"
    (root / "tmp").mkdir(exist_ok=True)
    (root / "tmp" / f"pack-{host}-1-dead").write_bytes(data)


def test_salvage_yields_exactly_the_whole_objects_at_every_cut(archive, root):
    plains = [b"one", b"two" * 40, noise(7, 90)]
    writer = PackWriter(archive.store, archive.info)
    ends = [
        (entry := writer.append(encode(array(p), None, Effort.FAST))).offset + entry.stored
        for p in plains
    ]
    writer._write(b"")
    data = writer._staged.path.read_bytes()
    writer.abort()
    for cut in range(len(data) + 1):
        leftover(root, data[:cut])
        rescued = salvage(archive)
        whole = [blake3_hex(p) for p, end in zip(plains, ends, strict=True) if end <= cut]
        assert [e.blake3 for one in rescued for e in one.entries] == whole, cut
        assert list((root / "tmp").iterdir()) == []
    assert sum(1 for _ in archive.packs()) == len(plains)


def test_salvage_leaves_out_what_is_damaged(archive, root, pack):
    data = bytearray(pack_path(root, pack).read_bytes())
    entry = archive.pack(pack).index()[1]
    data[entry.offset + entry.stored - 5] ^= 1
    leftover(root, bytes(data))
    (rescued,) = salvage(archive)
    assert [one.blake3 for one in rescued.entries] == [d for d in DIGESTS if d != DIGESTS[1]]


def test_salvage_leaves_the_pack_of_a_living_writer_alone(archive, root):
    writer = PackWriter(archive.store, archive.info)
    writer.append(encode(array(b"alive"), None, Effort.FAST))
    assert salvage(archive) == []
    assert writer._staged.path.exists()
    writer.finish()
