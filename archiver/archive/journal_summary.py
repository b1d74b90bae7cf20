"""What earlier processes read of the journal: one file in ``tmp/``, so that not each opens every event.

It is a copy of the events' files, and nothing in it is believed: an event counts if its bytes have the
digest in its name, and if its own file still has the size and the times that it had when it was read. So a
summary that is damaged, somebody else's, or old costs time only. It may be deleted at any time.

Bytes that rot under the same times are found by an audit, which reads every event's own file.
"""

from __future__ import annotations

import struct
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from archiver.archive import layout
from archiver.digest import blake3_hex
from archiver.errors import ArchiverError
from archiver.storage.store import FileStamp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.storage.store import Store

SUMMARY_MAX: Final = 32 << 20
"""The file has at most so many bytes, the oldest events first: those of some twenty years of nights."""
UNWRITTEN_MAX: Final = 128
"""So many events may be read from their own files before the summary is written anew. It is written by
whoever appends an event: who only reads an archive leaves nothing there."""
_SETTLED: Final = 3_000_000_000
"""A file that was changed less than so many nanoseconds before it was read may be changed again and keep
its times, which have steps of up to 2 seconds on FAT. It is left out until it is older."""
_MAGIC: Final = b"archiver journal summary 1\n"
_START: Final = len(_MAGIC) + 64
"""Bytes before the first event: after the first line the BLAKE3 of the rest."""
_HEAD: Final = struct.Struct("<qqHI")
"""Of each event: when its file was modified and changed, in nanoseconds, lengths of name and file."""


class _Entry(NamedTuple):
    """An event's file: what it held, and its stamp before it was read, at a moment of this machine."""

    stamp: FileStamp
    data: bytes | memoryview
    read: float = 0.0


class JournalSummary:
    """The summary of one archive, as one process uses it. Several threads may."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] | None = None
        """Those that came out of the file; None: it was not looked for yet."""
        self._new: dict[str, _Entry] = {}
        self._new_bytes = 0
        self._write_at = UNWRITTEN_MAX
        self._lock = threading.Lock()

    def recall(self, store: Store, name: str, stamp: FileStamp) -> bytes | None:
        """Return the bytes of the event ``name``, whose file has this stamp now; None if not known."""
        with self._lock:
            if self._entries is None:
                self._entries = dict(_read(store))
            # This process may have read it, and not kept it: there are that many.
            for entries in (self._new, self._entries):
                entry = entries.get(name)
                if entry is None:
                    continue
                data = bytes(entry.data)
                if entry.stamp == stamp and blake3_hex(data) == layout.event_of(name):
                    return data
                del entries[name]
        return None

    def add(self, name: str, stamp: FileStamp, data: bytes, read: float) -> None:
        """Note a whole event that was read from its file, which had this stamp at the moment ``read``."""
        with self._lock:
            if stamp.size == len(data) and self._new_bytes + len(data) <= SUMMARY_MAX:
                self._new_bytes += len(data)
                self._new[name] = _Entry(stamp, data, read)

    def write(self, store: Store) -> None:
        """Write the summary anew if that is worth it. Where it cannot be written nothing happens."""
        folder = store.folder
        if folder is None or len(self._new) < self._write_at:
            return
        with self._lock, suppress(ArchiverError):
            # Those that are not settled yet are not tried again with each event that follows.
            self._write_at = len(self._new) + UNWRITTEN_MAX
            there = list(store.list(layout.JOURNAL))
            if there:
                folder.replace_scratch(
                    layout.JOURNAL_SUMMARY, lambda disk_now: self._packed(there, disk_now)
                )

    def _packed(self, names: list[str], disk_now: int) -> bytes:
        """Return the file for these events, as far as it may grow, and as far as they are settled."""
        settled = dict(self._settled(disk_now))
        parts: list[bytes | memoryview] = []
        size = _START
        for name in names:
            entry = settled.get(name)
            if entry is None:
                continue
            path = name.encode()
            size += _HEAD.size + len(path) + len(entry.data)
            if size > SUMMARY_MAX:
                break
            times = entry.stamp.modified, entry.stamp.changed
            parts += (_HEAD.pack(*times, len(path), len(entry.data)), path, entry.data)
        body = b"".join(parts)
        return b"".join((_MAGIC, blake3_hex(body).encode(), body))

    def _settled(self, disk_now: int) -> Iterator[tuple[str, _Entry]]:
        """Give the entries whose files cannot have changed unseen; the disk's clock says it is now."""
        new, now = self._new, moment()
        for name, entry in (self._entries or {}).items():
            if name not in new:
                yield name, entry
        for name, entry in new.items():
            then = disk_now - int((now - entry.read) * 1e9)
            if max(entry.stamp.modified, entry.stamp.changed) <= then - _SETTLED:
                yield name, entry


def stamp_of(store: Store, name: str) -> FileStamp | None:
    """Return what tells that a stored file is still the same; None where that cannot be told."""
    try:
        return store.stamp(name)
    except ArchiverError:
        return None


def moment() -> float:
    """Return the seconds since some moment, by a clock that nobody sets and that goes on in a sleep."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _read(store: Store) -> Iterator[tuple[str, _Entry]]:
    """Give what is in the file; nothing if there is none, or another one than this version writes."""
    try:
        data = store.get(layout.JOURNAL_SUMMARY, SUMMARY_MAX)
    except (ArchiverError, FileNotFoundError):
        return
    body = memoryview(data)[_START:]
    if data[:_START] != _MAGIC + blake3_hex(body).encode():
        return
    at = 0
    while at + _HEAD.size <= len(body):
        modified, changed, path, length = _HEAD.unpack_from(body, at)
        middle = at + _HEAD.size + path
        at = middle + length
        name = str(body[middle - path : middle], "ascii", "replace")
        # What the bytes are worth is looked at when they are asked for.
        if at <= len(body) and layout.event_of(name):
            yield name, _Entry(FileStamp(length, modified, changed), body[middle:at])
