"""The trash: files on their way out, each below the time it was put there."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

from archiver.archive import layout
from archiver.storage.run_lock import RunLock
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
    store.make_room(_INDEX)
    store.require_writable()
    return RunLock(store.scratch(_LOCK), "'archiver forget', 'prune' or 'repair'", needed=True)


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
        aside = layout.aside_of(where)
        if aside is not None:
            found.append(Discarded(where, aside.time, aside.name, store.stat(where) or 0))
    return sorted(found, key=lambda one: (one.time, one.where), reverse=True)


class Discarding:
    """Moves files into one folder of the trash, of ``time`` or later; ``moved`` are those that went."""

    def __init__(self, store: Store, time: str) -> None:
        self._store = store
        self._time = time
        while any(store.list(layout.aside_name(layout.TRASH, self._time, "x").rpartition("/")[0])):
            self._time = utc_after(self._time)
        self.moved: list[Discarded] = []

    def put(self, name: str) -> None:
        """Move a file; harmless if it is not there."""
        size = self._store.stat(name)
        if size is None:
            return
        where = layout.aside_name(layout.TRASH, self._time, name)
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
