"""Statistics: what an archive holds and what it saves, as far as it can be read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from archiver.archive import layout
from archiver.catalogue import queries
from archiver.catalogue import stats as catalogue_stats
from archiver.catalogue.rebuild import open_catalogue
from archiver.errors import ArchiverError, DeniedError, skip_damaged

if TYPE_CHECKING:
    from archiver.archive.archive import Archive
    from archiver.progress import Progress

_LOOKS: Final = 5
"""So often is looked, while others add and take away."""


class StatsReport(NamedTuple):
    """The totals, and how many packs and snapshots they leave out: unreadable ones, missing packs."""

    totals: catalogue_stats.Stats
    unreadable_packs: int
    unreadable_snapshots: int
    missing_packs: int
    denied: int
    """How many of the unreadable ones, and of folders, this user may not read."""


def stats(archive: Archive, progress: Progress) -> StatsReport:
    """Return the totals over an archive, which may be read-only.

    ``progress`` is told if the catalogue is written anew.
    """
    unknown: set[str] | None = None
    for _ in range(_LOOKS):
        before = unknown
        report, unknown = _look(archive, progress)
        # What a writer published after the catalogue was brought up to date is not unreadable, and what
        # somebody forgot or moved meanwhile is not missing: another look knows of it.
        if not unknown or unknown == before:
            break
    return report


def _look(archive: Archive, progress: Progress) -> tuple[StatsReport, set[str]]:
    """Return the totals, and the packs and seals that are not in the catalogue or not there."""
    with open_catalogue(archive, progress) as catalogue:
        packs = set(archive.packs())
        unread_packs = packs - queries.known_packs(catalogue)
        named_packs = {
            pack for snapshot in archive.snapshots(skip_damaged) for pack, _ in snapshot.seal.packs
        }
        names = ((layout.document_of(name), name) for name in archive.store.list(layout.SNAPSHOTS))
        seals = {document.digest: name for document, name in names if document}
        unread_seals = seals.keys() - queries.known_snapshots(catalogue)
        unread = [*map(layout.pack_name, unread_packs), *(seals[digest] for digest in unread_seals)]
        denied = sum(_is_denied(archive, name) for name in unread)
        report = StatsReport(
            catalogue_stats.stats(catalogue),
            unreadable_packs=len(unread_packs),
            unreadable_snapshots=len(unread_seals),
            missing_packs=len(named_packs - packs),
            denied=denied + len(archive.store.passed_over()),
        )
    return report, {*unread, *(named_packs - packs)}


def _is_denied(archive: Archive, name: str) -> bool:
    try:
        archive.store.open(name).close()
    except DeniedError:
        return True
    except (ArchiverError, FileNotFoundError):
        pass
    return False
