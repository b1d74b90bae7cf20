"""The journal's chain: which events must have been there, and which seals the events tell of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from archiver.archive.place import told_lists

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from archiver.archive.records import Event

_TAKEN_OUT: Final = {"forgotten", "repaired"}
"""Events whose ``snapshots`` are seals that were set aside on purpose,"""
_PUT_BACK: Final = "remembered"
"""and those whose seals are there again."""


class Chain:
    """The events of a journal, oldest first, as far as they can be read."""

    def __init__(self) -> None:
        self._there: set[str] = set()
        self._after: dict[str, str] = {}
        self._sealed: dict[str, Event] = {}
        self._absent: set[str] = set()
        self._before: dict[str, tuple[str, ...]] = {}
        self._sealing: dict[str, str] = {}

    def add(self, digest: str, event: Event | None) -> None:
        """The next event; None if it is there and cannot be read."""
        self._there.add(digest)
        if event is None:
            return
        self._before[digest] = event.after
        for before in event.after:
            self._after.setdefault(before, digest)
        if event.event == "sealed":
            snapshot = str(event.detail.get("snapshot"))
            self._sealed[snapshot] = event
            self._sealing[digest] = snapshot
            self._absent.discard(snapshot)
        elif event.event in _TAKEN_OUT:
            self._absent |= told_lists(event, "snapshots")
        elif event.event == _PUT_BACK:
            self._absent -= told_lists(event, "snapshots")

    def missing(self) -> Iterator[tuple[str, str]]:
        """Each event that is listed and not there, and one that lists it."""
        for before, digest in self._after.items():
            if before not in self._there:
                yield before[:64], digest

    def vouched(self, ids: Iterable[str]) -> dict[str, str]:
        """Every event that these vouch for, themselves included -> one that lists it, or ``""``.

        Also those that cannot be read or are not there: what they listed is then not known.
        """
        found = dict.fromkeys(ids, "")
        todo = list(found)
        while todo:
            digest = todo.pop()
            new = [before for before in self._before.get(digest, ()) if before not in found]
            found.update(dict.fromkeys(new, digest))
            todo += new
        return found

    def sealed_by(self, ids: Iterable[str]) -> Iterator[Event]:
        """As ``sealed``, of these events only."""
        wanted = {self._sealing[digest] for digest in ids if digest in self._sealing}
        return (event for event in self.sealed() if event.detail.get("snapshot") in wanted)

    def sealed(self) -> Iterator[Event]:
        """The events of seals that were not taken out of use."""
        for snapshot, event in self._sealed.items():
            if snapshot not in self._absent:
                yield event
