"""The journal's chain: which events must have been there, and which seals they tell of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archiver.archive.events import Forgotten, Pruned, Remembered, Repaired, Sealed
from archiver.archive.journal import in_order
from archiver.archive.layout import document_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from archiver.archive.events import Event


class Chain:
    """The events of a journal, as far as they can be read."""

    def __init__(self, events: Iterable[tuple[str, Event]] = ()) -> None:
        self._events = dict(events)
        self._there = set(self._events)

    def add(self, digest: str, event: Event | None) -> None:
        """Take in the next event by name; None if it is there and cannot be read."""
        self._there.add(digest)
        if event is not None:
            self._events[digest] = event

    def missing(self) -> Iterator[tuple[str, str]]:
        """Return each event that is listed and not there, and the first that lists it."""
        missing: set[str] = set()
        for digest, event in self._events.items():
            for before in event.after:
                if before not in self._there and before not in missing:
                    missing.add(before)
                    yield before[:64], digest

    def vouched(self, ids: Iterable[str]) -> dict[str, str]:
        """Return every event that these vouch for, themselves included -> one that lists it, or ``""``.

        Also those that cannot be read or are not there: what they listed is then not known.
        """
        vouched = dict.fromkeys(ids, "")
        todo = list(vouched)
        while todo:
            digest = todo.pop()
            event = self._events.get(digest)
            new = [before for before in (event.after if event else ()) if before not in vouched]
            vouched.update(dict.fromkeys(new, digest))
            todo += new
        return vouched

    def sealed_by(self, ids: Iterable[str]) -> Iterator[Event]:
        """Return what ``sealed`` does, of these events only."""
        events = [self._events[digest] for digest in ids if digest in self._events]
        seals = {event.snapshot for event in events if isinstance(event.detail, Sealed)}
        return (event for event in self.sealed() if event.snapshot in seals)

    def deleted(self) -> frozenset[str]:
        """Return the ids of the seals that prune deleted for good at some time."""
        details = (event.detail for event in self._events.values())
        deletions = (pruned for pruned in details if isinstance(pruned, Pruned) and not pruned.to)
        documents = (document_of(name) for pruned in deletions for name in pruned.files)
        return frozenset(document.digest for document in documents if document)

    def sealed(self) -> Iterator[Event]:
        """Return the events of seals that were not taken out of use."""
        sealed: dict[str, Event] = {}
        unused: set[str] = set()
        for _, event in in_order(self._events):
            match event.detail:
                case Sealed(snapshot) if snapshot:
                    sealed[snapshot] = event
                    unused.discard(snapshot)
                case Forgotten() | Repaired():  # set aside on purpose
                    unused |= event.snapshots
                case Remembered(snapshots):
                    unused.difference_update(snapshots)
        return (event for snapshot, event in sealed.items() if snapshot not in unused)
