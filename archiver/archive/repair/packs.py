"""Mending packs: as whole files where a good copy is, else object by object into new packs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from archiver.archive.archive import Archive, Snapshot
from archiver.archive.layout import pack_name
from archiver.archive.packs.map import PackMap
from archiver.archive.repair.listing import listing_of
from archiver.archive.repair.needs import Needs, needs_of
from archiver.archive.repair.recut import Recut, Recutter
from archiver.archive.repair.whole_file import Mended
from archiver.errors import DamageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from archiver.archive.audit.examination import Examination
    from archiver.archive.repair.sources import ObjectSource
    from archiver.archive.repair.whole_file import WholeFiles
    from archiver.storage.store import Store

MENDABLE: Final = {"pack-missing", "pack-size", "pack-damaged", "index-damaged", "object-damaged"}
"""The codes of findings that name a pack which can be made anew."""


class PackState(msgspec.Struct, frozen=True):
    """How the packs are now.

    Attributes:
        mended: The packs that are right again under their names.
        bad: Those that are not.
        hit: The snapshots that stand on one of those.
        needs: The objects that no whole pack has.
        unknown: The ids of the snapshots on bad packs of which nobody knows what they need: they have no
            manifest now.
    """

    mended: tuple[Mended, ...]
    bad: frozenset[str]
    hit: tuple[Snapshot, ...]
    needs: Needs
    unknown: frozenset[str] = frozenset()


class Packs:
    """The damaged packs of an archive, and what they should give."""

    def __init__(self, archive: Archive, found: Examination, stores: Sequence[Store]) -> None:
        """Look for other copies of the packs in ``stores``, to learn what they held."""
        self._archive = archive
        self._found = found
        self._stores = [archive.store, *stores]

    def bring_back(self, whole: WholeFiles) -> PackState:
        """Put good copies in the place of the damaged packs that have one."""
        hit = dict.fromkeys(one.pack for one in self._found.findings if one.code in MENDABLE)
        mended, bad = [], []
        for pack in filter(None, hit):
            found = whole.heal(pack_name(pack))
            mended += [found] if found else []
            bad += [] if found else [pack]
        # A reader that was opened before may still see the old file.
        self._archive = Archive(self._archive.store, self._archive.info)
        pretended = frozenset(hit) - frozenset(bad) if whole.dry_run else frozenset()
        return self._state(tuple(mended), frozenset(bad), pretended)

    def _state(
        self, mended: tuple[Mended, ...], bad: frozenset[str], pretended: frozenset[str]
    ) -> PackState:
        living = self._archive.snapshots(on_damage=lambda _name, _error: None)
        hit = tuple(one for one in living if not bad.isdisjoint(_named(one)))
        concerned = {one.id: one for one in (*hit, *self._found.sealed)}
        denied = {one.wanted.pack for one in self._found.examined if one.denied}
        # What a pack holds that may not be read is not known to be missing.
        known = [one for one in concerned.values() if denied.isdisjoint(_named(one))]
        # What a pack holds that would be brought back is not known either; nothing of it is lost.
        known = [one for one in known if one in hit or pretended.isdisjoint(_named(one))]
        held = self.held(hit, bad)
        needs = needs_of(self._archive, known, lambda digest: held.find(digest) is not None)
        unknown = frozenset(one.id for one in hit if not _readable(self._archive, one))
        return PackState(mended, bad, hit, needs, unknown)

    def held(self, hit: Sequence[Snapshot], bad: frozenset[str]) -> PackMap:
        """The objects of the packs that are whole, as far as they were read."""
        proven = [one.wanted.pack for one in self._found.examined if one.state is not None]
        named = [pack for one in hit for pack in _named(one)]
        packs = dict.fromkeys((*proven, *named))
        return PackMap(self._archive, [pack for pack in packs if pack not in bad])

    def recut(self, state: PackState, sources: Sequence[ObjectSource]) -> Recut:
        """Make the bad packs anew from single objects, as far as these are to be had."""
        archive = self._archive
        held = self.held(state.hit, state.bad)
        recutter = Recutter(archive, held, state.needs, sources, state.bad)
        return recutter.run(
            listing_of(pack, self._stores, archive.info) for pack in sorted(state.bad)
        )

    def foresee(self, state: PackState, sources: Sequence[ObjectSource]) -> Recut:
        """What ``recut`` would find; nothing is written, and upstream sends no data."""
        done = Recut()
        for digest, need in state.needs.items():
            source = next((one.title for one in sources if one.offers(need)), None)
            if source is None:
                done.lost.add(digest)
            else:
                done.healed[digest] = source
        return done


def _readable(archive: Archive, snapshot: Snapshot) -> bool:
    try:
        archive.manifest(snapshot.seal)
    except DamageError:
        return False
    return True


def _named(snapshot: Snapshot) -> list[str]:
    return [pack for pack, _ in snapshot.seal.packs]
