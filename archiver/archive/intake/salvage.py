"""Unfinished packs of runs that were killed: what they hold, and publishing it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archiver.archive.intake.sink import PublishedPack
from archiver.archive.packs.reader import PackReader
from archiver.archive.packs.records import head_frame
from archiver.archive.packs.writer import PackWriter
from archiver.errors import DamageError

if TYPE_CHECKING:
    from archiver.archive.archive import Archive
    from archiver.archive.packs.records import IndexEntry
    from archiver.storage.store import Leftover


def salvage(archive: Archive) -> list[PublishedPack]:
    """Publish the whole objects in the unfinished packs of runs that were killed."""
    rescued = []
    for leftover in archive.store.leftovers("pack"):
        try:
            reader = PackReader(leftover.reader(), f"Unfinished pack {leftover.name}")
            try:
                sound = _sound_beginning(reader, archive)
                found = _adopt(leftover, sound) if sound else _copy(leftover, reader, archive)
            finally:
                reader.close()
            rescued += [found] if found else []
        finally:
            leftover.release()
    return rescued


def unfinished(archive: Archive) -> set[str]:
    """The objects that the unfinished packs of dead runs claim to hold."""
    found: set[str] = set()
    for leftover in archive.store.leftovers("pack"):
        try:
            reader = PackReader(leftover.reader(), f"Unfinished pack {leftover.name}")
            found.update(entry.blake3 for entry in reader.walk())
            reader.close()
        finally:
            leftover.release()
    return found


def _sound_beginning(reader: PackReader, archive: Archive) -> list[IndexEntry]:
    """The objects of an unfinished pack, if they are whole and lie there without a gap."""
    head = head_frame(archive.info)
    if not reader.begins_with(head):
        return []
    end, sound = len(head), []
    for entry in reader.walk():
        try:
            reader.copy(entry)
        except DamageError:
            return []
        if entry.offset != end:
            return []
        end += entry.stored
        sound.append(entry)
    return sound


def _adopt(leftover: Leftover, sound: list[IndexEntry]) -> PublishedPack:
    """Finish the pack where it lies: that needs next to no room."""
    writer = PackWriter.resumed(leftover, sound)
    try:
        pack, entries = writer.finish()
    finally:
        writer.keep()
    return PublishedPack(pack, writer.size, entries)


def _copy(leftover: Leftover, reader: PackReader, archive: Archive) -> PublishedPack | None:
    """Copy what is whole into a new pack."""
    writer = PackWriter(archive.store, archive.info)
    found = None
    try:
        if _copy_objects(reader, writer):
            pack, entries = writer.finish()
            found = PublishedPack(pack, writer.size, entries)
    finally:
        writer.abort()
    leftover.discard()
    return found


def _copy_objects(reader: PackReader, writer: PackWriter) -> int:
    count = 0
    for entry in reader.walk():
        try:
            item = reader.copy(entry)
        except DamageError:
            continue
        writer.append(item)
        count += 1
    return count
