"""What a run that was killed leaves, and how the next one goes on from there.

Two things: a *worklog*, JSON lines in ``tmp/`` that say which segments of which file are stored, and
*unfinished packs*, whose whole objects are published. Both are hints: a file that is continued is hashed
from its first byte and must have upstream's digest like any other; an object is decoded and compared.
"""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING

import msgspec

from archiver.archive.ingest.object_store import PublishedPack
from archiver.archive.packs.format import head_frame
from archiver.archive.packs.reader import PackReader
from archiver.archive.packs.writer import PackWriter
from archiver.digest import as_blake3, blake3_hex
from archiver.errors import ArchiverError, DamageError
from archiver.storage.files import explain
from archiver.storage.filesystem import open_working_file
from archiver.storage.store import local_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from archiver.archive.archive import Archive
    from archiver.archive.packs.format import IndexEntry
    from archiver.storage.store import Leftover, Store


class _Line(msgspec.Struct, frozen=True, array_like=True):
    """A stored segment of a file; a size of 0 forgets everything before about the file."""

    path: str
    begin: int
    size: int
    blake3: str


class StoredSegments:
    """The segments that a worklog says are stored."""

    def __init__(self, text: bytes) -> None:
        self._lines: dict[str, dict[int, _Line]] = {}
        for row in text.splitlines():
            # A torn last line is what a killed run leaves.
            with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, ArchiverError):
                line = msgspec.json.decode(row, type=_Line)
                if line.size > 0:
                    as_blake3(line.blake3)
                    self._lines.setdefault(line.path, {})[line.begin] = line
                else:
                    self.forget(line.path)

    def forget(self, path: str) -> None:
        """Know nothing of ``path`` any more."""
        self._lines.pop(path, None)

    def of(self, path: str) -> Iterator[tuple[int, str]]:
        """Yield size and BLAKE3 of the stored segments of ``path``, without a gap from its first byte."""
        lines, at = self._lines.get(path, {}), 0
        while at in lines:
            yield lines[at].size, lines[at].blake3
            at += lines[at].size


def _path_of(store: Store, key: str) -> Path:
    return local_folder(store).scratch(f"work-{blake3_hex(key.encode())[:32]}.jsonl")


def read_worklog(store: Store, key: str) -> StoredSegments:
    """Return what an unfinished run noted, only looked at."""
    try:
        return StoredSegments(_path_of(store, key).read_bytes())
    except (OSError, ArchiverError):
        return StoredSegments(b"")


def remove_worklog(store: Store, key: str) -> None:
    """Remove the log of a run that was killed when all was done but this."""
    with contextlib.suppress(OSError, ArchiverError):
        _path_of(store, key).unlink()


class Worklog:
    """The log of one revision's run; several processes may write to the same one."""

    def __init__(self, store: Store, key: str) -> None:
        self._path = _path_of(store, key)
        self._lock = threading.Lock()
        self._segments = read_worklog(store, key)
        self._torn = _ends_in_a_torn_line(self._path)
        try:
            self._handle = open_working_file(
                self._path, os.O_APPEND | os.O_WRONLY, self._path.parents[1]
            )
        except OSError as error:
            raise explain(error, self._path, "the run was begun") from error

    def segments(self, path: str) -> list[tuple[int, str]]:
        """Return size and BLAKE3 of the segments of ``path`` that are stored, from its first byte on."""
        return list(self._segments.of(path))

    def add(self, path: str, rows: list[tuple[int, int, str]]) -> None:
        """Note stored segments of ``path``: (begin, size, BLAKE3)."""
        self._append([_Line(path, *row) for row in rows])

    def forget(self, path: str) -> None:
        """Note that nothing stored of ``path`` is to be used again."""
        self._segments.forget(path)
        self._append([_Line(path, 0, 0, "")])

    def _append(self, lines: list[_Line]) -> None:
        data = b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
        try:
            with self._lock:
                # Only what follows a torn line on a line of its own can be read.
                data = b"\n" + data if self._torn else data
                self._torn = os.write(self._handle, data) != len(data)
        except OSError as error:
            raise explain(error, self._path, "progress was noted") from error

    def close(self) -> None:
        """Let go of the file and keep it for the next run."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def remove(self) -> None:
        """Remove the file: the run ended well, and nothing is left to continue."""
        self.close()
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()


def _ends_in_a_torn_line(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    except OSError:  # there is none, or it is empty
        return False


def salvage(archive: Archive) -> list[PublishedPack]:
    """Publish the whole objects in the unfinished packs of runs that were killed; return the packs."""
    salvaged = []
    for leftover in archive.store.leftovers("pack"):
        try:
            reader = PackReader(leftover.reader(), f"Unfinished pack {leftover.name}")
            try:
                entries = _sound_beginning(reader, archive)
                pack = (
                    _finish_in_place(leftover, entries)
                    if entries
                    else _copy_whole_objects(leftover, reader, archive)
                )
            finally:
                reader.close()
            salvaged += [pack] if pack else []
        finally:
            leftover.release()
    return salvaged


def unfinished_objects(archive: Archive) -> set[str]:
    """Return the objects that the unfinished packs of dead runs claim to hold."""
    digests: set[str] = set()
    for leftover in archive.store.leftovers("pack"):
        try:
            reader = PackReader(leftover.reader(), f"Unfinished pack {leftover.name}")
            digests.update(entry.blake3 for entry in reader.walk())
            reader.close()
        finally:
            leftover.release()
    return digests


def _sound_beginning(reader: PackReader, archive: Archive) -> list[IndexEntry]:
    """Return the objects of an unfinished pack, if they are whole and lie there without a gap."""
    head = head_frame(archive.info)
    if not reader.begins_with(head):
        return []
    end, entries = len(head), []
    for entry in reader.walk():
        try:
            reader.copy(entry)
        except DamageError:
            return []
        if entry.offset != end:
            return []
        end += entry.stored
        entries.append(entry)
    return entries


def _finish_in_place(leftover: Leftover, entries: list[IndexEntry]) -> PublishedPack:
    """Finish the pack where it lies: that needs next to no room."""
    writer = PackWriter.resumed(leftover, entries)
    try:
        return PublishedPack.finished(writer)
    finally:
        writer.keep()


def _copy_whole_objects(
    leftover: Leftover, reader: PackReader, archive: Archive
) -> PublishedPack | None:
    """Copy what is whole into a new pack; return None if nothing is."""
    writer = PackWriter(archive.store, archive.info)
    pack, count = None, 0
    try:
        for entry in reader.walk():
            try:
                encoded = reader.copy(entry)
            except DamageError:
                continue
            writer.append(encoded)
            count += 1
        if count:
            pack = PublishedPack.finished(writer)
    finally:
        writer.abort()
    leftover.discard()
    return pack
