"""Statistics: what an archive holds and what it saves, as far as it can be read."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from archiver.archive import layout
from archiver.catalogue import queries
from archiver.catalogue.rebuild import open_catalogue
from archiver.catalogue.stats import Stats, stats
from archiver.errors import ArchiverError, DeniedError, skip_damaged

if TYPE_CHECKING:
    from archiver.archive.archive import Archive
    from archiver.progress import Progress


class Statistics(NamedTuple):
    """The totals, and how many packs and snapshots they leave out: unreadable ones, missing packs."""

    stats: Stats
    unreadable_packs: int
    unreadable_snapshots: int
    missing_packs: int
    denied: int
    """How many of the unreadable ones, and of folders, this user may not read."""


def statistics(archive: Archive, progress: Progress) -> Statistics:
    """Return the totals over an archive, which may be read-only.

    ``progress`` is told if the catalogue is written anew.
    """
    with open_catalogue(archive, progress) as catalogue:
        there = set(archive.packs())
        packs = there - queries.known_packs(catalogue)
        missing = _named_packs(archive) - there
        seals = _seals(archive)
        unread = seals.keys() - queries.known_snapshots(catalogue)
        names = [*map(layout.pack_name, packs), *(seals[one] for one in unread)]
        denied = sum(_is_denied(archive, name) for name in names) + len(archive.store.passed_over())
        return Statistics(stats(catalogue), len(packs), len(unread), len(missing), denied)


def _named_packs(archive: Archive) -> set[str]:
    """Every pack that a readable seal names."""
    whole = archive.snapshots(skip_damaged)
    return {pack for snapshot in whole for pack, _ in snapshot.seal.packs}


def _seals(archive: Archive) -> dict[str, str]:
    """The digest of each seal, and its name."""
    names = ((layout.document_of(name), name) for name in archive.store.list(layout.SNAPSHOTS))
    return {document.digest: name for document, name in names if document}


def _is_denied(archive: Archive, name: str) -> bool:
    try:
        archive.store.open(name).close()
    except DeniedError:
        return True
    except (ArchiverError, FileNotFoundError):
        pass
    return False
