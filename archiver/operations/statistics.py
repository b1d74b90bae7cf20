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
    """The totals, and how many packs and snapshots they leave out because they cannot be read."""

    stats: Stats
    unreadable_packs: int
    unreadable_snapshots: int


def statistics(archive: Archive) -> Statistics:
    """The totals over an archive, which may be read-only."""
    with open_current(archive) as catalogue:
        packs = set(archive.packs()) - queries.known_packs(catalogue)
        seals = _seals(archive) - queries.known_snapshots(catalogue)
        return Statistics(stats(catalogue), len(packs), len(seals))


def _seals(archive: Archive) -> set[str]:
    names = map(layout.document_of, archive.store.list(layout.SNAPSHOTS))
    return {document.digest for document in names if document}
