"""Prune: delete what no snapshot needs, in two steps that are a grace apart; never needed in normal use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from archiver.archive.clock import ahead_of_clock
from archiver.archive.events import ClockSeen, new_event
from archiver.archive.prune.pruner import Pruner, PruneReport
from archiver.archive.prune.trash import clear_up, removal_lock
from archiver.catalogue import updates
from archiver.catalogue.rebuild import open_catalogue
from archiver.errors import ArchiverError
from archiver.text import utc_now

if TYPE_CHECKING:
    from archiver.archive.archive import Archive
    from archiver.progress import Progress

_EARLIEST: Final = "2025-01-01T00:00:00Z"
"""No archive is older, so a clock that shows less is wrong."""


class PruneRequest(NamedTuple):
    """How to prune.

    Attributes:
        grace: The seconds that a file stays condemned, and then in the trash.
        dry_run: Nothing is changed.
        trust_clock: This machine's clock is right, though the journal has come to a later time; that is
            journalled first.
    """

    grace: int
    dry_run: bool = False
    trust_clock: bool = False


def prune(archive: Archive, request: PruneRequest, progress: Progress) -> PruneReport:
    """Prune once; ``progress`` shows that the catalogue is written anew, if it is.

    Raises:
        ArchiverError: The journal has come to a later time than the clock; nothing was deleted.
        DamageError: What is needed cannot be known; nothing was deleted.
        PolicyError: The policy forbids it.
        LockedError: Another process deletes.
    """
    grace = request.grace
    if request.dry_run:
        return Pruner(archive, grace=grace, dry_run=True).run()
    archive.require_writable()
    with removal_lock(archive.store), open_catalogue(archive, progress) as catalogue:

        def forget_pack(pack: str) -> None:
            if pack:
                updates.forget_pack(catalogue, pack)

        latest = ahead_of_clock(archive.standing_events()) if request.trust_clock else ""
        if latest:
            _confirm_clock(archive, latest)
        report = Pruner(archive, grace=grace, forget_pack=forget_pack).run()
        clear_up(archive.store, grace)
        return report


def _confirm_clock(archive: Archive, latest: str) -> None:
    """Journal that this machine's clock is right, though the journal has come to ``latest``.

    ArchiverError if the clock cannot be right.
    """
    now = utc_now()
    if now < _EARLIEST:
        raise ArchiverError(
            f"This machine's clock says {now}, when there was no archive anywhere.",
            hint="Nothing was done. Set the clock first, for instance with 'timedatectl set-time'.",
        )
    archive.record(new_event(ClockSeen(since=latest, confirmed=True), time=now))
