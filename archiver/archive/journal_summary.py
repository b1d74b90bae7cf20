"""What earlier processes read of the journal: two files in ``tmp/``, so that not each opens every event.

Both are copies of the events' files: ``journal-summary`` of all, ``standing-events`` of those that stand
(`archiver.archive.standing_events`) and of the newest. No event in them is believed: it counts if its bytes
have the digest in its name, and if its own file still has the size and the times that it had when it was
read. Which of the older events stand is believed, for a journal in which the same older events are there;
an audit of the documents works it out anew.

A file that is damaged, or old, costs time only. They may be deleted at any time. Bytes that rot under the
same times are found by an audit, which reads every event's own file.
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
    from collections.abc import Iterable, Iterator

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
_STANDING_MAGIC: Final = b"archiver standing events 1\n"
"""The number goes up with every change of what stands."""
_DIGEST_LENGTH: Final = 64
"""After the first line comes the BLAKE3 of the rest, which begins with the first event."""
_STANDING_HEAD: Final = struct.Struct("<QQ64s")
"""Before the first standing event: how many older events there are, how many stand, and the BLAKE3 of the
names of the older ones. The newest events follow those that stand."""
_HEAD: Final = struct.Struct("<qqHI")
"""Of each event: when its file was modified and changed, in nanoseconds, lengths of name and file."""


class _Entry(NamedTuple):
    """An event's file: what it held, and its stamp before it was read, at a moment of this machine."""

    stamp: FileStamp
    data: bytes | memoryview
    read: float = 0.0


class StandingNames(NamedTuple):
    """Which of the ``older`` events, so many, stand; ``digest`` is that of the names of all these."""

    older: int
    digest: str
    names: tuple[str, ...]

    def is_of(self, names: list[str]) -> bool:
        """Return whether the oldest of a journal's names are those that this tells of."""
        return self.older <= len(names) and names_digest(names[: self.older]) == self.digest


def names_digest(names: list[str]) -> str:
    """Return the BLAKE3 of events' names."""
    return blake3_hex("\n".join(names).encode())


class JournalSummary:
    """The summary of one archive, as one process uses it. Several threads may."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] | None = None
        """Those that came out of the summary; None: it was not looked for yet."""
        self._standing: tuple[StandingNames | None, dict[str, _Entry]] | None = None
        """What came out of the file of standing events; likewise."""
        self._new: dict[str, _Entry] = {}
        self._new_bytes = 0
        self._write_at = UNWRITTEN_MAX
        self._lock = threading.Lock()

    def recall(self, store: Store, name: str, stamp: FileStamp) -> bytes | None:
        """Return the bytes of the event ``name``, whose file has this stamp now; None if not known."""
        with self._lock:
            # This process may have read it, and not kept it: there are that many.
            for entries in self._known(store, name):
                entry = entries.get(name)
                if entry is None:
                    continue
                data = bytes(entry.data)
                if entry.stamp == stamp and blake3_hex(data) == layout.event_of(name):
                    return data
                del entries[name]
        return None

    def _known(self, store: Store, name: str) -> Iterator[dict[str, _Entry]]:
        yield self._new
        standing, entries = self._load_standing(store)
        yield entries
        # What is newer than the one file is not in the other either, which is as long as the journal.
        if self._entries is not None or standing is None or name <= next(reversed(entries), ""):
            yield self._load_entries(store)

    def _load_entries(self, store: Store) -> dict[str, _Entry]:
        if self._entries is None:
            body = _read(store, layout.JOURNAL_SUMMARY, _MAGIC)
            self._entries = dict(_unpacked(body)) if body else {}
        return self._entries

    def _load_standing(self, store: Store) -> tuple[StandingNames | None, dict[str, _Entry]]:
        if self._standing is None:
            self._standing = _read_standing(store)
        return self._standing

    def standing(self, store: Store) -> StandingNames | None:
        """Return which events are said to stand; None if that is not known."""
        with self._lock:
            return self._load_standing(store)[0]

    def distrust_standing(self, store: Store, *, renew: bool = False) -> None:
        """Believe no more what was said to stand; ``renew``: whoever writes next says it anew."""
        with self._lock:
            said, _ = self._load_standing(store)
            if said is not None and renew:
                self._write_at = 0
            self._standing = None, {}

    def add(self, name: str, stamp: FileStamp, data: bytes, read: float) -> None:
        """Note a whole event that was read from its file, which had this stamp at the moment ``read``."""
        with self._lock:
            if stamp.size == len(data) and self._new_bytes + len(data) <= SUMMARY_MAX:
                self._new_bytes += len(data)
                self._new[name] = _Entry(stamp, data, read)

    def is_due(self, store: Store) -> bool:
        """Return whether it is worth it to write the files anew."""
        return store.folder is not None and len(self._new) >= self._write_at

    def write(self, store: Store, names: list[str], standing: StandingNames | None) -> None:
        """Write the files anew for a journal with these names. Where they cannot be nothing happens."""
        folder = store.folder
        if folder is None or not names:
            return
        with self._lock, suppress(ArchiverError):
            # Those that are not settled yet are not tried again with each event that follows.
            self._write_at = len(self._new) + UNWRITTEN_MAX
            _, recent = self._load_standing(store)
            entries = {**recent, **self._load_entries(store)}
            folder.replace_scratch(
                layout.JOURNAL_SUMMARY,
                lambda disk_now: _file(_MAGIC, b"", names, self._settled(entries, disk_now)),
            )
            if standing is not None:
                names = [*standing.names, *names[standing.older :]]
                folder.replace_scratch(
                    layout.STANDING_EVENTS,
                    lambda disk_now: self._standing_file(standing, names, entries, disk_now),
                )

    def _standing_file(
        self,
        standing: StandingNames,
        names: list[str],
        entries: dict[str, _Entry],
        disk_now: int,
    ) -> bytes:
        head = standing.older, len(standing.names), standing.digest.encode()
        settled = self._settled(entries, disk_now)
        # One that is not settled yet makes a file that is none; the next one may be.
        whole = all(name in settled for name in standing.names)
        return _file(_STANDING_MAGIC, _STANDING_HEAD.pack(*head), names, settled) if whole else b""

    def _settled(self, entries: dict[str, _Entry], disk_now: int) -> dict[str, _Entry]:
        """Return the entries whose files cannot have changed unseen; the disk's clock says it is now."""
        new, now = self._new, moment()
        settled = {name: entry for name, entry in entries.items() if name not in new}
        for name, entry in new.items():
            then = disk_now - int((now - entry.read) * 1e9)
            if max(entry.stamp.modified, entry.stamp.changed) <= then - _SETTLED:
                settled[name] = entry
        return settled


def stamp_of(store: Store, name: str) -> FileStamp | None:
    """Return what tells that a stored file is still the same; None where that cannot be told."""
    try:
        return store.stamp(name)
    except ArchiverError:
        return None


def moment() -> float:
    """Return the seconds since some moment, by a clock that nobody sets and that goes on in a sleep."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _file(magic: bytes, head: bytes, names: Iterable[str], entries: dict[str, _Entry]) -> bytes:
    """Return the file for these events, as far as it may grow, and as far as there are entries of them."""
    parts: list[bytes | memoryview] = [head]
    size = len(magic) + _DIGEST_LENGTH + len(head)
    for name in names:
        entry = entries.get(name)
        if entry is None:
            continue
        path = name.encode()
        size += _HEAD.size + len(path) + len(entry.data)
        if size > SUMMARY_MAX:
            break
        times = entry.stamp.modified, entry.stamp.changed
        parts += (_HEAD.pack(*times, len(path), len(entry.data)), path, entry.data)
    body = b"".join(parts)
    return b"".join((magic, blake3_hex(body).encode(), body))


def _read(store: Store, name: str, magic: bytes) -> memoryview | None:
    """Return what is in a file; None if there is none, or another one than this version writes."""
    try:
        data = store.get(name, SUMMARY_MAX)
    except (ArchiverError, FileNotFoundError):
        return None
    start = len(magic) + _DIGEST_LENGTH
    body = memoryview(data)[start:]
    return body if data[:start] == magic + blake3_hex(body).encode() else None


def _unpacked(body: memoryview) -> Iterator[tuple[str, _Entry]]:
    """Give the entries of a file, in their order."""
    at = 0
    while at + _HEAD.size <= len(body):
        modified, changed, path, length = _HEAD.unpack_from(body, at)
        middle = at + _HEAD.size + path
        at = middle + length
        name = str(body[middle - path : middle], "ascii", "replace")
        # What the bytes are worth is looked at when they are asked for.
        if at <= len(body) and layout.event_of(name):
            yield name, _Entry(FileStamp(length, modified, changed), body[middle:at])


def _read_standing(store: Store) -> tuple[StandingNames | None, dict[str, _Entry]]:
    """Return which events are said to stand, and the entries of these and of the newest."""
    body = _read(store, layout.STANDING_EVENTS, _STANDING_MAGIC)
    if body is None or len(body) < _STANDING_HEAD.size:
        return None, {}
    count, standing, digest = _STANDING_HEAD.unpack_from(body)
    entries = dict(_unpacked(body[_STANDING_HEAD.size :]))
    names = tuple(entries)[:standing]
    if len(names) < standing:
        return None, {}
    return StandingNames(count, str(digest, "ascii", "replace"), names), entries
