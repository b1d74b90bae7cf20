"""Prune: delete what no snapshot needs, in two steps that are a grace apart; never needed in normal use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archiver.archive.clock import confirm_clock, journal_ahead
from archiver.archive.prune.pruner import Pruned, Pruner
from archiver.archive.prune.trash import clear_up, deleting
from archiver.catalogue import updates
from archiver.catalogue.rebuild import open_catalogue

if TYPE_CHECKING:
    from archiver.archive.archive import Archive
    from archiver.progress import Progress


def prune(
    archive: Archive, *, grace: int, dry_run: bool, trust_clock: bool = False, progress: Progress
) -> Pruned:
    """Prune once; ``grace`` are the seconds that a file stays condemned, and then in the trash.

    With ``trust_clock`` the journal is told first that this machine's clock is right, if it has come to
    a later time. ``progress`` is told if the catalogue is written anew.

    Raises:
        ArchiverError: The journal has come to a later time than the clock; nothing was deleted.
        DamageError: What is needed cannot be known; nothing was deleted.
        PolicyError: The policy forbids it.
        LockedError: Another process deletes.
    """
    if dry_run:
        return Pruner(archive, grace=grace, dry_run=True).run()
    archive.require_writable()
    with deleting(archive.store), open_catalogue(archive, progress) as catalogue:

        def forget_pack(pack: str) -> None:
            if pack:
                updates.forget_pack(catalogue, pack)

        latest = journal_ahead(archive) if trust_clock else ""
        if latest:
            confirm_clock(archive, latest)
        done = Pruner(archive, grace=grace, forget_pack=forget_pack).run()
        clear_up(archive.store, grace)
        return done
