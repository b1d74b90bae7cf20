"""Which snapshot's turn it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archiver.archive.places import own_place
from archiver.smoke.receipt import last_tested
from archiver.text import utc_before

if TYPE_CHECKING:
    from archiver.archive.archive import Archive
    from archiver.archive.seals import Snapshot


def next_due(
    archive: Archive, repository: str | None, revision: str | None, age: float | None
) -> Snapshot | None:
    """The snapshot whose last test is oldest, whatever it came to; never tested first, ties by name.

    So one that always fails has its turn like any other, and keeps none from theirs. With ``age``,
    in seconds, those have no turn whose test held within it; one that failed since is still due.
    Without a repository only whole snapshots are looked at: chosen files are no model. None if
    nothing is due.

    Raises:
        UsageError: There is no such snapshot.
        DamageError: A seal is damaged.
    """
    if repository:
        found = archive.fitting(repository, revision)
    else:
        found = [one for one in archive.snapshots() if not one.seal.selection.chosen]
    tested = last_tested(archive, found, own_place(archive))
    since = None if age is None else utc_before(age)
    due = [one for one in found if since is None or not tested[one.id].proves(since)]
    return min(due, key=lambda one: (tested[one.id].tried, one.name), default=None)
