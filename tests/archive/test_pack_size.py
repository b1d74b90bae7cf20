"""A pack keeps to its size, index and trailer included (docs/format.md, section 3)."""

import random

import pytest
from archivekit import array, object_store, pack_path
from kit.repository import noise

from archiver.archive.archive import Archive
from archiver.archive.packs import writer as writing
from archiver.archive.packs.writer import PACK_SIZE, PackWriter
from archiver.codec.segment import Effort, encode
from archiver.digest import blake3_hex
from archiver.errors import DamageError


def encoded(size: int, seed: int):
    return encode(array(noise(seed, size)), None, Effort.FAST)


def finished_size(archive, items) -> int:
    writer = PackWriter(archive.store, archive.info)
    for item in items:
        writer.append(item)
    writer.complete()
    size = writer.size
    writer.abort()
    return size


@pytest.mark.parametrize("seed", range(5))
def test_there_is_room_exactly_as_long_as_the_finished_pack_fits(archive, monkeypatch, seed):
    draw = random.Random(seed)
    items = [encoded(draw.randint(1, 3000), 100 * seed + number) for number in range(12)]
    for count in range(1, len(items)):
        exact = finished_size(archive, items[: count + 1])
        writer = PackWriter(archive.store, archive.info)
        for item in items[:count]:
            writer.append(item)
        for limit, fits in ((exact, True), (exact - 1, False)):
            monkeypatch.setattr(writing, "PACK_SIZE", limit)
            assert writer.has_room(items[count]) == fits
        writer.abort()


def test_an_empty_pack_takes_any_object(archive, monkeypatch):
    monkeypatch.setattr(writing, "PACK_SIZE", 100)
    writer = PackWriter(archive.store, archive.info)
    assert writer.has_room(encoded(3000, 1))
    writer.append(encoded(3000, 1))
    assert not writer.has_room(encoded(1, 2))
    writer.abort()


def test_no_pack_of_a_run_is_larger_and_none_is_closed_too_early(archive, root, monkeypatch):
    monkeypatch.setattr(writing, "PACK_SIZE", 20_000)
    plains = [noise(seed, random.Random(seed).randint(1, 6000)) for seed in range(60)]
    objects = object_store(archive)
    for plain in plains:
        objects.put(array(plain), None)
    objects.flush()
    objects.close()
    sizes = [pack_path(root, each.pack).stat().st_size for each in objects.published]
    assert sizes == [each.size for each in objects.published]
    assert max(sizes) <= 20_000
    assert min(sizes[:-1]) > 20_000 - 6000 - 500
    held = {entry.blake3 for each in objects.published for entry in each.entries}
    assert held == set(map(blake3_hex, plains))


def test_the_size_is_the_one_of_the_page():
    assert PACK_SIZE == 268_435_456


def test_a_file_that_no_pack_can_be_is_not_read(archive, root, run):
    """It is sparse: whoever reads it would hash zeros for minutes."""
    pack = "ab" * 32
    path = pack_path(root, pack)
    path.parent.mkdir(parents=True)
    for size, reads in ((0xFFFF_FFFF, True), (0x1_0000_0000, False)):
        with path.open("wb") as file:
            file.truncate(size)
        opened = Archive.open(root)
        if reads:
            assert opened.pack(pack).size == size
        else:
            with pytest.raises(DamageError, match="more than a pack can have"):
                opened.pack(pack)
    result = run("audit", "-q", "--json", "-C", root)
    assert result.code == 20
    assert {row["code"] for row in result.kinds("finding")} == {"pack-damaged", "unsealed-pack"}
