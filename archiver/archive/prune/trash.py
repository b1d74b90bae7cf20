"""The trash: files on their way out, each below the time it was put there."""

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


_INDEX: Final = tuple(f"{layout.CATALOGUE}{end}" for end in ("", "-wal", "-shm", "-journal"))
"""The file before its companions, as when another takes its place."""


def deleting(store: Store) -> RunLock:
    """Held by whoever takes files out of use, or brings them back; LockedError if another does.

    On a full disk the reserve and the index give their room for that: they are made anew when there is
    some. Raises ArchiverError if nothing can be written.
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
    """What is in the trash, the newest first."""
    found = []
    for where in store.list(layout.TRASH):
        aside = layout.quarantined_of(where)
        if aside is not None:
            found.append(Discarded(where, aside.time, aside.name, store.stat(where) or 0))
    return sorted(found, key=lambda one: (one.time, one.where), reverse=True)


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
    """Whatever was moved when the block ends with an error goes back."""
    discarding = Discarding(store, time)
    try:
        yield discarding
    except BaseException:
        bring_back(store, discarding.moved, lambda _name: True)
        raise


def bring_back(
    store: Store, trash: Iterable[Discarded], wanted: Callable[[str], bool]
) -> list[Discarded]:
    """Move wanted files back to where nothing is; those that went."""
    back = []
    for one in trash:
        if wanted(one.name) and store.stat(one.name) is None:
            try:
                store.move(one.where, one.name)
            except FileNotFoundError:
                continue  # it was not moved at all, or another brought it back
            back.append(one)
    return back


# ---- What runs that died left in ``tmp/``: seen by status, gone on with by the next run, removed by prune.


_PACK: Final = "pack"
_HALF_WRITTEN: Final = (
    *("put", "link", "copy", "repair", "parity", "parity-blocks", "signature", "intent"),
)
_WORKLOG: Final = re.compile(r"tmp/(work-[0-9a-f]{32}\.jsonl)")
_LEAST_IDLE: Final = 7 * 86400
"""Seconds for which nobody wrote to a worklog before it can be one that nobody goes on with."""


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
    for name in _idle_worklogs(store, longest):
        store.remove(name)
    store.tidy(layout.TRASH)


def _idle_worklogs(store: Store, longest: int) -> Iterator[str]:
    for name in list(store.list(layout.TMP)):
        found = _WORKLOG.fullmatch(name)
        path = local_folder(store).scratch(found[1]) if found else None
        if path is not None and path.exists():
            changed = path.parent.stat().st_mtime  # by the disk's own clock, as the file's is
            if changed - path.stat().st_mtime > longest:
                yield name
