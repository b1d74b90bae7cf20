"""Statistics: what an archive holds and what it saves, as far as it can be read."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from archiver.archive import layout
from archiver.catalogue import queries
from archiver.catalogue.current import open_current
from archiver.catalogue.stats import Stats, stats

if TYPE_CHECKING:
    from archiver.archive.archive import Archive


class Statistics(NamedTuple):
    """The totals, and how many packs and snapshots they leave out: unreadable ones, missing packs."""

    stats: Stats
    unreadable_packs: int
    unreadable_snapshots: int
    missing_packs: int


def statistics(archive: Archive) -> Statistics:
    """The totals over an archive, which may be read-only."""
    with open_current(archive) as catalogue:
        there = set(archive.packs())
        packs = there - queries.known_packs(catalogue)
        missing = _named_packs(archive) - there
        seals = _seals(archive) - queries.known_snapshots(catalogue)
        return Statistics(stats(catalogue), len(packs), len(seals), len(missing))


def _named_packs(archive: Archive) -> set[str]:
    """Every pack that a readable seal names."""
    whole = archive.snapshots(lambda _name, _error: None)
    return {pack for snapshot in whole for pack, _ in snapshot.seal.packs}


def _seals(archive: Archive) -> set[str]:
    names = map(layout.document_of, archive.store.list(layout.SNAPSHOTS))
    return {document.digest for document in names if document}
