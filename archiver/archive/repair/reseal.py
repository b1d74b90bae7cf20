"""New seals for snapshots whose packs were made anew, and the old ones into quarantine.

Three steps of a repair, in an order that survives any crash: new seals, the journal's event, then the old
seals and packs. At every moment each visible seal can be restored from as far as it could before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from archiver.archive import layout
from archiver.archive.clock import next_time
from archiver.archive.events import Event, Repaired, new_event
from archiver.archive.packs.index import ObjectIndex
from archiver.archive.publish import announced_needs, closure_names, own_pack, publish
from archiver.archive.quarantine import move_to_quarantine
from archiver.archive.vouching import vouches_of
from archiver.errors import DamageError, skip_damaged

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from archiver.archive.archive import Archive
    from archiver.archive.journal import Journal
    from archiver.archive.publish import Placement
    from archiver.archive.repair.stored_files import RepairedFile
    from archiver.archive.seals import Snapshot


class Resealed(msgspec.Struct, frozen=True):
    """A snapshot that has a new seal: its title, and names and ids of the old seal and the new one."""

    snapshot: str
    name: str
    old: str
    new_name: str
    new: str


def reseal(
    archive: Archive,
    snapshots: Sequence[Snapshot],
    damaged: frozenset[str],
    new_packs: Sequence[str],
) -> tuple[list[Resealed], frozenset[str]]:
    """Seal anew each snapshot that stands on a damaged pack and is whole without it.

    Return also the damaged packs that nothing stands on any more. A pack stays where it is as long as a
    snapshot that could not be sealed anew stands on it.
    """
    anywhere = ObjectIndex(archive, [pack for pack in archive.packs() if pack not in damaged])
    resealed: list[Resealed] = []
    needed: set[str] = set()
    for snapshot in snapshots:
        packs = [pack for pack, _ in snapshot.seal.packs]
        if damaged.isdisjoint(packs):
            continue
        own = ObjectIndex(archive, [pack for pack in (*packs, *new_packs) if pack not in damaged])
        new_seal = _reseal(archive, snapshot, _placement(own, anywhere), damaged)
        if new_seal is None:
            needed.update(packs)
        else:
            resealed.append(new_seal)
    return resealed, damaged - needed


def _placement(own: ObjectIndex, anywhere: ObjectIndex) -> Placement:
    """Return where objects lie: in the snapshot's own packs if these have them."""

    def place(digest: str) -> tuple[str, int] | None:
        location = own.find(digest) or anywhere.find(digest)
        return (location[0], location[1].stored) if location else None

    return place


def _reseal(
    archive: Archive, snapshot: Snapshot, placement: Placement, damaged: frozenset[str]
) -> Resealed | None:
    seal = snapshot.seal
    try:
        manifest, plain = archive.manifest(seal), archive.manifest_bytes(seal)
        keep, placement = own_pack(archive, placement)
        new = publish(
            archive,
            manifest,
            placement,
            seal.selection,
            # The bytes are the same, so they are as good as they were.
            vouches=vouches_of(seal, manifest.source, manifest.files),
            stored=plain,
            damaged=damaged,
            keep=keep,
        )
    except DamageError:
        return None  # something of it is nowhere: it keeps what it has
    return Resealed(snapshot.title, snapshot.name, snapshot.id, new.name, new.id)


def seal_again(archive: Archive, unsealed: Snapshot) -> Snapshot | None:
    """Seal a snapshot whose seal is lost, by its manifest; None if something of it is in no pack."""
    try:
        manifest, plain = archive.manifest(unsealed.seal), archive.manifest_bytes(unsealed.seal)
        anywhere = ObjectIndex(archive, archive.packs())
        keep, placement = own_pack(archive, _placement(anywhere, anywhere))
        return publish(
            archive,
            manifest,
            placement,
            unsealed.seal.selection,
            vouches=vouches_of(unsealed.seal, manifest.source, manifest.files),
            stored=plain,
            keep=keep,
        )
    except DamageError:
        return None


_NAMES_MAX: Final = 2000
"""Names in one event: it may have 1 MiB."""


def repaired_events(
    journal: Journal, place: str, repaired: Iterable[RepairedFile], seals: Sequence[str] = ()
) -> Iterator[Event]:
    """Return one or more ``repaired`` events for each source; ``seals`` are the ids of those to go.

    Their time is after that of the events that are there: also within a second a seal is first
    published, and then quarantined.
    """
    time = next_time(journal.events(skip_damaged))
    by_source: dict[str, list[str]] = {}
    for file in repaired:
        by_source.setdefault(file.source, []).extend(file.replaced_by or (file.name,))
    for source, files in by_source.items():
        names = list(dict.fromkeys(files))
        for at in range(0, len(names), _NAMES_MAX):
            part = tuple(names[at : at + _NAMES_MAX])
            yield new_event(Repaired(part, source, place), time=time)
    for at in range(0, len(seals), _NAMES_MAX):
        ids = tuple(seals[at : at + _NAMES_MAX])
        yield new_event(Repaired((), place=place, snapshots=ids), time=time)


def quarantine_replaced(
    archive: Archive, resealed: Sequence[Resealed], packs: frozenset[str]
) -> list[str]:
    """Take old seals and packs out of use, which the journal tells of already; return their names.

    A pack that another process has come to need meanwhile is put back, and is not among them.
    """
    store = archive.store
    # Seals first, so that no visible seal ever stands on a pack that this took away.
    seals = [seal.name for seal in resealed if move_to_quarantine(store, seal.name)]
    quarantined = {
        name: copy
        for name in map(layout.pack_name, sorted(packs))
        if (copy := move_to_quarantine(store, name))
    }
    needed = set(quarantined)
    try:
        # Looked at after the move: a writer announces first and looks for its packs then, so one of the two
        # sees the other.
        needed &= _needed_files(archive)
    finally:
        # All of them, if it cannot be known what others need.
        for name in needed:
            store.link(quarantined[name], name)
    return seals + [name for name in quarantined if name not in needed]


def _needed_files(archive: Archive) -> set[str]:
    """Return the files that seals, and writers about to seal, name."""
    needed: set[str] = set()
    for files in announced_needs(archive.store).values():
        needed |= files
    for snapshot in archive.snapshots(on_damage=skip_damaged):
        needed.update(closure_names(snapshot.seal))
    return needed
