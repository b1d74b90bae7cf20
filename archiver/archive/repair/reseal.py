"""New seals for snapshots whose packs changed; then what they stand in for is set aside.

The order survives any crash: new packs, new seals, the event, then the old seals, then the old packs. At
every moment each visible seal can be restored from as far as it could before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from archiver.archive import layout
from archiver.archive.clock import next_time
from archiver.archive.events import Event, Repaired, new_event
from archiver.archive.packs.index import ObjectIndex
from archiver.archive.publish import Placement, announced_needs, closure_names, publish
from archiver.archive.quarantine import move_to_quarantine
from archiver.archive.vouching import vouches_of
from archiver.errors import DamageError, skip_damaged

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from archiver.archive.archive import Archive
    from archiver.archive.journal import Journal
    from archiver.archive.repair.whole_files import Mended
    from archiver.archive.seals import Snapshot


class Resealed(msgspec.Struct, frozen=True):
    """A snapshot that has a new seal: its title, and names and ids of the old seal and the new one."""

    snapshot: str
    name: str
    old: str
    new_name: str
    new: str


def reseal(
    archive: Archive, snapshots: Sequence[Snapshot], bad: frozenset[str], new: Sequence[str]
) -> tuple[list[Resealed], frozenset[str]]:
    """Seal anew each snapshot that stands on a bad pack and is whole without; and the packs to set aside.

    A pack stays where it is as long as a snapshot that could not be sealed anew stands on it.
    """
    whole = [pack for pack in archive.packs() if pack not in bad]
    anywhere = ObjectIndex(archive, whole)
    done: list[Resealed] = []
    kept: set[str] = set()
    for snapshot in snapshots:
        named = [pack for pack, _ in snapshot.seal.packs]
        if bad.isdisjoint(named):
            continue
        within = ObjectIndex(archive, [pack for pack in (*named, *new) if pack not in bad])
        found = _seal(archive, snapshot, _placement(within, anywhere), bad)
        if found is None:
            kept.update(named)
        else:
            done.append(found)
    return done, bad - kept


def _placement(within: ObjectIndex, anywhere: ObjectIndex) -> Placement:
    def place(digest: str) -> tuple[str, int] | None:
        found = within.find(digest) or anywhere.find(digest)
        return (found[0], found[1].stored) if found else None

    return place


def _seal(
    archive: Archive, snapshot: Snapshot, placement: Placement, bad: frozenset[str]
) -> Resealed | None:
    seal = snapshot.seal
    try:
        manifest = archive.manifest(seal)
        new = publish(
            archive,
            manifest,
            placement,
            seal.selection,
            # The bytes are the same, so they are as good as they were.
            vouches=vouches_of(seal, manifest.source, manifest.files),
            stored=seal.manifest,
            unfit=bad,
        )
    except DamageError:
        return None  # something of it is nowhere: it keeps what it has
    return Resealed(snapshot.title, snapshot.name, snapshot.id, new.name, new.id)


def set_aside(archive: Archive, seals: Sequence[Resealed], packs: frozenset[str]) -> list[str]:
    """Take the old seals and packs out of use; the names of those that are. To be journalled before.

    A pack that another process has come to need meanwhile is put back.
    """
    store = archive.store
    done = [one.name for one in seals if move_to_quarantine(store, one.name)]
    moved = {
        name: place
        for name in map(layout.pack_name, sorted(packs))
        if (place := move_to_quarantine(store, name))
    }
    needed = set(moved)
    try:
        needed &= _needed(archive)
    finally:
        # All of them, if it cannot be known what others need.
        for name in needed:
            store.link(moved[name], name)
    return done + [name for name in moved if name not in needed]


def _needed(archive: Archive) -> set[str]:
    """The files that seals, and writers about to seal, name."""
    found: set[str] = set()
    for needs in announced_needs(archive.store).values():
        found |= needs
    for snapshot in archive.snapshots(on_damage=skip_damaged):
        found.update(closure_names(snapshot.seal))
    return found


# ---- What a repair writes into the journal.


_AT_ONCE: Final = 2000
"""Names in one event: it may have 1 MiB."""


def repaired_events(
    journal: Journal, place: str, mended: Iterable[Mended], snapshots: Sequence[str] = ()
) -> Iterator[Event]:
    """One or more ``repaired`` events for each source; ``snapshots`` are the seals to be set aside.

    Their time is after that of the events that are there: also within a second a seal is first
    published, and then set aside.
    """
    time = next_time(journal.events(skip_damaged))
    by_source: dict[str, list[str]] = {}
    for one in mended:
        by_source.setdefault(one.source, []).extend(one.instead or (one.name,))
    for source, files in by_source.items():
        names = list(dict.fromkeys(files))
        for at in range(0, len(names), _AT_ONCE):
            some = tuple(names[at : at + _AT_ONCE])
            yield new_event(Repaired(some, source, place), time=time)
    for at in range(0, len(snapshots), _AT_ONCE):
        ids = tuple(snapshots[at : at + _AT_ONCE])
        yield new_event(Repaired((), place=place, snapshots=ids), time=time)
