"""Forget: take seals out of use, and put them back; never needed in normal use.

What a seal stood on stays until it is pruned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from archiver.archive import layout
from archiver.archive.advice import command
from archiver.archive.archive import TOOL, Archive, Snapshot
from archiver.archive.intent import announced
from archiver.archive.place import forgotten, next_time, own_place
from archiver.archive.pruning.history import batches, condemned, deletable_history
from archiver.archive.pruning.needs import Needs
from archiver.archive.pruning.trash import bring_back, deleting, discarded, reversible
from archiver.archive.publish import closure_names, recheck
from archiver.archive.records import Event
from archiver.errors import UsageError
from archiver.names import as_repo_id, slug

if TYPE_CHECKING:
    from collections.abc import Iterable


def forget(
    archive: Archive, repository: str, revision: str | None, *, every: bool, dry_run: bool
) -> list[Snapshot]:
    """Move the seals of a repository, or of one revision, to the trash; those that went, or would.

    Raises:
        UsageError: There is none; or there are several, and neither a revision nor ``every`` chose.
        DamageError: The journal is not whole, or a seal of the repository is damaged.
        PolicyError: The policy forbids it.
        LockedError: Another process deletes.
    """
    if dry_run:
        deletable_history(archive)
        return _held(archive, repository, revision, every=every)
    archive.require_writable()
    archive.store.require_writable()
    with deleting(archive.store):
        history = deletable_history(archive)
        chosen = _held(archive, repository, revision, every=every)
        _record(archive, "forgotten", chosen, next_time(history))
        with reversible(archive.store) as discarding:
            for one in chosen:
                discarding.put(one.name)
    return chosen


def remember(
    archive: Archive, repository: str, revision: str | None, *, every: bool, dry_run: bool
) -> list[Snapshot]:
    """Bring forgotten seals back from the trash, after all that they stand on; those that came.

    Raises:
        UsageError: As for ``forget``.
        DamageError: A seal is damaged, or something that it stands on is gone for good.
        LockedError: Another process deletes.
    """
    if dry_run:
        return _in_trash(archive, repository, revision, every=every)
    archive.require_writable()
    archive.store.require_writable()
    with deleting(archive.store):
        chosen = _in_trash(archive, repository, revision, every=every)
        for one in chosen:
            _bring_back(archive, one)
        events = list(archive.events(lambda _name, _error: None))
        _record(archive, "remembered", chosen, next_time(events))
        again = sorted(condemned(events, own_place(archive)).keys() & Needs(chosen).names)
        for batch in batches(again):
            archive.record(Event("spared", next_time(events), TOOL, detail={"files": batch}))
    return chosen


def _record(archive: Archive, event: str, chosen: list[Snapshot], time: str) -> None:
    first = chosen[0].seal
    revisions = {one.seal.revision for one in chosen}
    revision = first.revision if len(revisions) == 1 else ""
    make = _forgotten if event == "forgotten" else _remembered
    for batch in batches([one.id for one in chosen]):
        archive.record(make(time, first.repository, revision, batch))


def _forgotten(time: str, repository: str, revision: str, ids: list[str]) -> Event:
    return Event("forgotten", time, TOOL, repository, revision, {"snapshots": ids})


def _remembered(time: str, repository: str, revision: str, ids: list[str]) -> Event:
    return Event("remembered", time, TOOL, repository, revision, {"snapshots": ids})


def _held(
    archive: Archive, repository: str, revision: str | None, *, every: bool
) -> list[Snapshot]:
    found = archive.snapshots_of(repository)
    if not found:
        archive.find(repository)  # says what is held instead
    return _chosen(found, repository, revision, every=every)


def _chosen(
    found: Iterable[Snapshot], repository: str, revision: str | None, *, every: bool
) -> list[Snapshot]:
    """Those that are meant, if that is sure."""
    fitting = [one for one in found if one.seal.revision.startswith(revision or "")]
    revisions = sorted({one.seal.revision for one in fitting})
    if not fitting:
        raise UsageError(f"{repository}@{revision or ''} is not there.".replace("@ ", " "))
    if revision and len(revisions) > 1:
        held = ", ".join(one[:12] for one in revisions[:8])
        raise UsageError(f"Revision {revision} of {repository} fits several: {held}.")
    if not revision and len(fitting) > 1 and not every:
        raise UsageError(
            f"{repository} has {len(fitting)} snapshots.",
            hint="Name one as REPO@REVISION, or all of them with --all.",
        )
    return fitting


def _in_trash(
    archive: Archive, repository: str, revision: str | None, *, every: bool
) -> list[Snapshot]:
    """The forgotten seals that are meant: in the trash, or back in use by a run that was cut short."""
    events = archive.events(lambda _name, _error: None)
    told = forgotten(events)
    found = {one.id: one for one in archive.snapshots_of(repository) if one.id in told}
    prefix = f"{layout.SNAPSHOTS}/{slug(as_repo_id(repository))}/"
    for one in discarded(archive.store):
        if one.name.startswith(prefix):
            snapshot = archive.read_seal(one.name, one.where)
            if snapshot.seal.repository.casefold() == repository.casefold():
                found.setdefault(snapshot.id, snapshot)
    if not found:
        raise UsageError(
            f"No snapshot of {repository} is in the trash.",
            hint=f"{command('list', archive.store.describe())} shows what the archive holds.",
        )
    return _chosen(found.values(), repository, revision, every=every)


def _bring_back(archive: Archive, snapshot: Snapshot) -> None:
    """First what the seal stands on, then the seal; announced, as by everyone who seals."""
    name, needs = snapshot.name, Needs([snapshot])
    with announced(archive.store, closure_names(snapshot.seal)):
        trash = discarded(archive.store)
        bring_back(archive.store, trash, lambda one: one != name and needs.cover(one))
        recheck(archive, snapshot.seal)
        archive.manifest(snapshot.seal)
        bring_back(archive.store, trash, lambda one: one == name)
