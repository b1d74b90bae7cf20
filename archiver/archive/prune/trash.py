"""The trash: files on their way out, each below the time it was put there, and what dead runs left.

What is in the trash can be brought back until ``prune`` deletes it. What runs that died left in ``tmp/``
is seen by a status, gone on with by the next run, and removed by a prune.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

from archiver.archive import layout
from archiver.storage.locks import RunLock
from archiver.storage.store import local_folder
from archiver.text import utc_after

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from archiver.storage.store import Store

_LOCK: Final = "aside.lock"
_INDEX: Final = (
    *(f"{layout.CATALOGUE}{end}" for end in ("", "-wal", "-shm", "-journal")),
    layout.JOURNAL_SUMMARY,
    layout.STANDING_EVENTS,
)
"""The catalogue before the files beside it, as when another takes its place; what was read of events."""

_PACK: Final = "pack"
_HALF_WRITTEN: Final = (
    *("put", "link", "copy", "repair", "parity", "parity-blocks", "signature", "intent"),
    layout.JOURNAL_SUMMARY.rpartition("/")[2],
    layout.STANDING_EVENTS.rpartition("/")[2],
)
_WORKLOG: Final = re.compile(r"tmp/(work-[0-9a-f]{32}\.jsonl)")
_LEAST_IDLE: Final = 7 * 86400
"""Seconds for which nobody wrote to a worklog before it can be one that nobody goes on with."""


def removal_lock(store: Store) -> RunLock:
    """Return the lock of whoever takes files out of use or brings them back; LockedError if it is held.

    On a full disk the reserve and the index give their room for that: they are made anew when there is
    some. Raise ArchiverError if nothing can be written.
    """
    folder = local_folder(store)
    folder.make_room(_INDEX)
    store.require_writable()
    return RunLock(folder.scratch(_LOCK), "'archiver forget', 'prune' or 'repair'", needed=True)


class Discarded(NamedTuple):
    """A file in the trash: where it lies, since when, its name before, and its size in bytes."""

    where: str
    time: str
    name: str
    size: int


def discarded(store: Store) -> list[Discarded]:
    """Return what is in the trash, the newest first."""
    trash = [
        Discarded(where, origin.time, origin.name, store.stat(where) or 0)
        for where in store.list(layout.TRASH)
        if (origin := layout.quarantined_of(where)) is not None
    ]
    return sorted(trash, key=lambda file: (file.time, file.where), reverse=True)


class Discarding:
    """Moves files into one folder of the trash, of ``time`` or later; ``moved`` are those that went."""

    def __init__(self, store: Store, time: str) -> None:
        self._store = store
        self._time = time
        while any(
            store.list(layout.quarantined_name(layout.TRASH, self._time, "x").rpartition("/")[0])
        ):
            self._time = utc_after(self._time)
        self.moved: list[Discarded] = []

    def put(self, name: str) -> None:
        """Move a file; harmless if it is not there."""
        size = self._store.stat(name)
        if size is None:
            return
        where = layout.quarantined_name(layout.TRASH, self._time, name)
        self.moved.append(Discarded(where, self._time, name, size))
        self._store.move(name, where)


@contextmanager
def reversible(store: Store, time: str) -> Iterator[Discarding]:
    """Move files to the trash; if the block ends with an error, all that were moved go back."""
    discarding = Discarding(store, time)
    try:
        yield discarding
    except BaseException:
        bring_back(store, discarding.moved, lambda _name: True)
        raise


def bring_back(
    store: Store, trash: Iterable[Discarded], is_needed: Callable[[str], bool]
) -> list[Discarded]:
    """Move the files that are needed, by their names before, back to where nothing is; return these."""
    rescued = []
    for file in trash:
        if is_needed(file.name) and store.stat(file.name) is None:
            try:
                store.move(file.where, file.name)
            except FileNotFoundError:
                continue  # it was not moved at all, or another brought it back
            rescued.append(file)
    return rescued


class Unfinished(NamedTuple):
    """Files of dead runs: how many, their bytes together, and the bytes of packs among them."""

    files: int
    bytes: int
    pack_bytes: int


def unfinished(store: Store) -> Unfinished:
    """Return what dead runs left. Worklogs are not counted: a living run may have them open."""
    files = total = packs = 0
    for purpose in (*_HALF_WRITTEN, _PACK):
        for leftover in store.leftovers(purpose):
            files += 1
            total += leftover.size
            packs += leftover.size if purpose == _PACK else 0
            leftover.release()
    return Unfinished(files, total, packs)


def clear_up(store: Store, grace: int) -> None:
    """Remove what dead runs left half-written, and the folders of the trash that are empty.

    Packs, and the worklogs that tell what is in them, are what the next run goes on with: they go once
    nobody wrote to them for ``grace`` seconds, a week at least.
    """
    for purpose in _HALF_WRITTEN:
        for leftover in store.leftovers(purpose):
            leftover.discard()
    longest = max(grace, _LEAST_IDLE)
    for leftover in store.leftovers(_PACK):
        if leftover.idle > longest:
            leftover.discard()
        leftover.release()
    for name in list(store.list(layout.TMP)):
        worklog = _WORKLOG.fullmatch(name)
        path = local_folder(store).scratch(worklog[1]) if worklog else None
        if path is not None and path.exists():
            changed = path.parent.stat().st_mtime  # by the disk's own clock, as the file's is
            if changed - path.stat().st_mtime > longest:
                store.remove(name)
    store.tidy(layout.TRASH)
