"""Prune: delete what no snapshot needs, in two steps that are a grace apart; never needed in normal use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archiver.archive.pruning.pruner import Pruned, Pruner
from archiver.archive.pruning.trash import clear_up, deleting
from archiver.catalogue import updates
from archiver.catalogue.current import open_current

if TYPE_CHECKING:
    from archiver.archive.archive import Archive


def prune(archive: Archive, *, grace: int, dry_run: bool) -> Pruned:
    """Prune once; ``grace`` are the seconds that a file stays condemned, and then in the trash.

    Raises:
        DamageError: What is needed cannot be known; nothing was deleted.
        PolicyError: The policy forbids it.
        LockedError: Another process deletes.
    """
    if dry_run:
        return Pruner(archive, grace=grace, dry_run=True).run()
    archive.require_writable()
    archive.store.require_writable()
    with deleting(archive.store), open_current(archive) as catalogue:

        def forget_pack(pack: str) -> None:
            if pack:
                updates.forget_pack(catalogue, pack)

        done = Pruner(archive, grace=grace, forget_pack=forget_pack).run()
        clear_up(archive.store)
        return done
