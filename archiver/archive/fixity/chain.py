"""The journal's chain: which events must have been there, and which seals the events tell of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archiver.archive.events import Forgotten, Pruned, Remembered, Repaired, Sealed
from archiver.archive.journal import in_order
from archiver.archive.layout import document_of
from archiver.archive.manifests import derived_revision
from archiver.archive.vouching import Voucher
from archiver.errors import DamageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from archiver.archive.archive import Archive, Snapshot
    from archiver.archive.events import Event


class Chain:
    """The events of a journal, as far as they can be read."""

    def __init__(self) -> None:
        self._there: set[str] = set()
        self._events: dict[str, Event] = {}

    def add(self, digest: str, event: Event | None) -> None:
        """The next event by name; None if it is there and cannot be read."""
        self._there.add(digest)
        if event is not None:
            self._events[digest] = event

    def missing(self) -> Iterator[tuple[str, str]]:
        """Each event that is listed and not there, and the first that lists it."""
        told: set[str] = set()
        for digest, event in self._events.items():
            for before in event.after:
                if before not in self._there and before not in told:
                    told.add(before)
                    yield before[:64], digest

    def vouched(self, ids: Iterable[str]) -> dict[str, str]:
        """Every event that these vouch for, themselves included -> one that lists it, or ``""``.

        Also those that cannot be read or are not there: what they listed is then not known.
        """
        found = dict.fromkeys(ids, "")
        todo = list(found)
        while todo:
            digest = todo.pop()
            event = self._events.get(digest)
            new = [before for before in (event.after if event else ()) if before not in found]
            found.update(dict.fromkeys(new, digest))
            todo += new
        return found

    def sealed_by(self, ids: Iterable[str]) -> Iterator[Event]:
        """As ``sealed``, of these events only."""
        told = [self._events[digest] for digest in ids if digest in self._events]
        wanted = {event.snapshot for event in told if isinstance(event.detail, Sealed)}
        return (event for event in self.sealed() if event.snapshot in wanted)

    def deleted(self) -> frozenset[str]:
        """The ids of the seals that prune deleted for good at some time."""
        details = (event.detail for event in self._events.values())
        gone = (pruned for pruned in details if isinstance(pruned, Pruned) and not pruned.to)
        documents = (document_of(name) for pruned in gone for name in pruned.files)
        return frozenset(document.digest for document in documents if document)

    def sealed(self) -> Iterator[Event]:
        """The events of seals that were not taken out of use."""
        sealed: dict[str, Event] = {}
        absent: set[str] = set()
        for _, event in in_order(self._events):
            match event.detail:
                case Sealed(snapshot) if snapshot:
                    sealed[snapshot] = event
                    absent.discard(snapshot)
                case Forgotten() | Repaired():  # set aside on purpose
                    absent |= event.snapshots
                case Remembered(snapshots):
                    absent.difference_update(snapshots)
        return (event for snapshot, event in sealed.items() if snapshot not in absent)


class StandIns:
    """Seals that stand in for lost ones of the same revision: so a snapshot is mended.

    One of all files does, unless the lost one can have had the higher voucher. Older events do not say
    which it had: then only upstream's will do, or a revision that is itself a digest of the files.
    """

    def __init__(self, archive: Archive, snapshots: Iterable[Snapshot]) -> None:
        self._archive = archive
        self._whole: dict[tuple[str, str], list[Snapshot]] = {}
        for one in snapshots:
            if one.seal.selection.whole:
                key = (one.seal.repository.casefold(), one.seal.revision)
                self._whole.setdefault(key, []).append(one)

    def cover(self, event: Event) -> bool:
        """Whether one stands in for the seal that the event tells of."""
        sealed = event.detail
        lost = Voucher.of(sealed.vouched) if isinstance(sealed, Sealed) else None
        least = Voucher.UPSTREAM if lost is None else lost
        return any(
            self._voucher(one) >= least or (lost is None and self._names_its_files(one))
            for one in self.of_revision(event)
        )

    def of_revision(self, event: Event) -> list[Snapshot]:
        """The snapshots of all files of the event's revision, whatever their vouchers."""
        return self._whole.get((event.repository.casefold(), event.revision), [])

    def _names_its_files(self, snapshot: Snapshot) -> bool:
        try:
            files = self._archive.manifest_facts(snapshot.seal).files
        except DamageError:
            return False
        return snapshot.seal.revision == derived_revision(files)

    def _voucher(self, snapshot: Snapshot) -> Voucher:
        vouching = self._archive.vouching(snapshot)
        return vouching.least if vouching else Voucher.NOBODY
