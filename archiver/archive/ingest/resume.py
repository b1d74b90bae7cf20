"""What an unfinished run had already stored, so that the next run need not fetch it again.

A scratch file of JSON lines in ``tmp/``. It is a hint: a continued file is hashed from its first byte
and must have upstream's digest like any other.
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


def _path_of(store: Store, key: str) -> Path:
    return local_folder(store).scratch(f"work-{blake3_hex(key.encode())[:32]}.jsonl")


def discard(store: Store, key: str) -> None:
    """Remove the log of a run that was killed when all was done but this."""
    with contextlib.suppress(OSError, ArchiverError):
        _path_of(store, key).unlink()


def noted(store: Store, key: str) -> Noted:
    """What an unfinished run has noted, only looked at."""
    try:
        return Noted(_path_of(store, key).read_bytes())
    except (OSError, ArchiverError):
        return Noted(b"")


class Noted:
    """The segments that a log says are stored."""

    def __init__(self, text: bytes) -> None:
        self._known: dict[str, dict[int, _Line]] = {}
        for row in text.splitlines():
            # A torn last line is what a killed run leaves.
            with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, ArchiverError):
                self._add(msgspec.json.decode(row, type=_Line))

    def _add(self, line: _Line) -> None:
        if line.size > 0:
            as_blake3(line.blake3)
            self._known.setdefault(line.path, {})[line.begin] = line
        else:
            self.forget(line.path)

    def forget(self, path: str) -> None:
        """Know nothing of ``path`` any more."""
        self._known.pop(path, None)

    def segments(self, path: str) -> Iterator[tuple[int, str]]:
        """Size and BLAKE3 of the stored segments of ``path``, without a gap from its first byte."""
        lines, at = self._known.get(path, {}), 0
        while at in lines:
            yield lines[at].size, lines[at].blake3
            at += lines[at].size


class Worklog:
    """The log of one revision's run; several processes may write to the same one."""

    def __init__(self, store: Store, key: str) -> None:
        self._path = _path_of(store, key)
        self._lock = threading.Lock()
        self._noted = noted(store, key)
        self._torn = _ends_in_a_torn_line(self._path)
        try:
            self._handle = open_working_file(
                self._path, os.O_APPEND | os.O_WRONLY, self._path.parents[1]
            )
        except OSError as error:
            raise explain(error, self._path, "the run was begun") from error

    def segments(self, path: str) -> Iterator[tuple[int, str]]:
        """Size and BLAKE3 of the stored segments of ``path``, without a gap from its first byte."""
        return self._noted.segments(path)

    def stored(self, path: str, rows: list[tuple[int, int, str]]) -> None:
        """Note stored segments of ``path``: (begin, size, BLAKE3)."""
        self._append([_Line(path, *row) for row in rows])

    def forget(self, path: str) -> None:
        """Note that nothing stored of ``path`` is to be used again."""
        self._noted.forget(path)
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
        """The run ended well: nothing is left to continue."""
        self.close()
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()


def _ends_in_a_torn_line(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    except OSError:  # None there, or an empty one.
        return False


# ---- Unfinished packs of runs that were killed: what they hold, and publishing it.


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
