"""Forget: take seals out of use, and put them back; never needed in normal use.

What a seal stood on stays until it is pruned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

from archiver.archive import layout
from archiver.archive.advice import command
from archiver.archive.check.heads import Chain
from archiver.archive.clock import next_time
from archiver.archive.events import Event, Forgotten, Remembered, Sealed, Spared, new_event
from archiver.archive.places import forgotten, own_place
from archiver.archive.prune.condemn import Needs, batches, condemned, deletable_history
from archiver.archive.prune.trash import bring_back, deleting, discarded, reversible
from archiver.archive.publish import announced, closure_names, recheck
from archiver.archive.seals import ID_DIGITS, Snapshot, is_seal_id
from archiver.errors import UsageError, skip_damaged
from archiver.names import as_repo_id, slug

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from archiver.archive.archive import Archive
    from archiver.archive.prune.condemn import History

One = TypeVar("One", Snapshot, Event)


class Affected(NamedTuple):
    """What was forgotten or taken back: snapshots, and the events of those whose seals prune deleted."""

    snapshots: list[Snapshot]
    gone: list[Event]


def forget(
    archive: Archive, repository: str, revision: str | None, *, every: bool, dry_run: bool
) -> Affected:
    """Move the seals of a repository, or of one revision, to the trash; those that went, or would.

    Where none of those that are meant is there, and prune deleted one that was then taken back, the
    journal is told that it is not wanted after all.

    Raises:
        UsageError: There is none; or there are several, and neither a revision nor ``every`` chose.
        DamageError: The journal is not whole, or a seal of the repository is damaged.
        PolicyError: The policy forbids it.
        LockedError: Another process deletes.
    """
    if dry_run:
        return _forgettable(archive, deletable_history(archive), repository, revision, every=every)
    archive.require_writable()
    with deleting(archive.store):
        history = deletable_history(archive)
        chosen = _forgettable(archive, history, repository, revision, every=every)
        time = next_time(history)
        _record(archive, Forgotten, chosen.snapshots or chosen.gone, time)
        with reversible(archive.store, time) as discarding:
            for one in chosen.snapshots:
                discarding.put(one.name)
    return chosen


def remember(
    archive: Archive, repository: str, revision: str | None, *, every: bool, dry_run: bool
) -> Affected:
    """Bring forgotten seals back from the trash, after all that they stand on; those that came.

    Where none of those that are meant is in the trash any more, the journal is told all the same: they
    are wanted again, so that a copy, a mirror or a repair can bring them.

    Raises:
        UsageError: As for ``forget``.
        DamageError: A seal is damaged, or something that it stands on is gone for good.
        LockedError: Another process deletes.
    """
    if dry_run:
        return _remembered(archive, repository, revision, every=every)
    archive.require_writable()
    with deleting(archive.store):
        chosen = _remembered(archive, repository, revision, every=every)
        for one in chosen.snapshots:
            _bring_back(archive, one)
        events = list(archive.events(skip_damaged))
        _record(archive, Remembered, chosen.snapshots or chosen.gone, next_time(events))
        again = sorted(condemned(events, own_place(archive)).keys() & Needs(chosen.snapshots).names)
        for batch in batches(again):
            archive.record(new_event(Spared(batch), time=next_time(events)))
    return chosen


def _record(
    archive: Archive,
    kind: type[Forgotten | Remembered],
    chosen: Sequence[Snapshot] | Sequence[Event],
    time: str,
) -> None:
    subjects = [_subject(one) for one in chosen]
    revisions = {one.revision for one in subjects}
    revision = subjects[0].revision if len(revisions) == 1 else ""
    for batch in batches([one.id for one in subjects]):
        archive.record(new_event(kind(batch), subjects[0].repository, revision, time=time))


class _Subject(NamedTuple):
    repository: str
    revision: str
    id: str


def _subject(one: Snapshot | Event) -> _Subject:
    """Return what a snapshot is, by its seal or by the event of its seal."""
    if isinstance(one, Event):
        return _Subject(one.repository, one.revision, one.snapshot)
    return _Subject(one.seal.repository, one.seal.revision, one.id)


def _held(
    archive: Archive, repository: str, revision: str | None, *, every: bool
) -> list[Snapshot]:
    found = archive.snapshots_of(repository)
    if not found and is_seal_id(repository, revision):
        return [archive.find(repository)]
    if not found:
        archive.find(repository)  # says what is held instead
    return _chosen(found, repository, revision, every=every)


def _forgettable(
    archive: Archive, history: History, repository: str, revision: str | None, *, every: bool
) -> Affected:
    """Return those that are there and meant, or else those that were pruned and are wanted again."""
    there = {one.id: one for one in archive.snapshots_of(repository)}
    chain = Chain()
    for digest, event in history:
        chain.add(digest, event)
    deleted = chain.deleted() - there.keys()
    wanted = [
        event
        for event in chain.sealed()
        if event.snapshot in deleted
        if event.repository.casefold() == repository.casefold()
        if event.revision.startswith(revision or "")
    ]
    fitting = any(one.seal.revision.startswith(revision or "") for one in there.values())
    if wanted and not fitting:
        latest = {event.revision: event for event in wanted}.values() if not every else wanted
        return Affected([], _chosen(latest, repository, revision, every=every))
    return Affected(_held(archive, repository, revision, every=every), [])


def _chosen(
    found: Iterable[One], repository: str, revision: str | None, *, every: bool
) -> list[One]:
    """Return those that are meant, if that is sure."""
    subjects = list(found)
    fitting = [one for one in subjects if _fits(one, revision, by_id=False)]
    fitting = fitting or [one for one in subjects if _fits(one, revision, by_id=True)]
    revisions = sorted({_subject(one).revision for one in fitting})
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


def _fits(one: Snapshot | Event, digits: str | None, *, by_id: bool) -> bool:
    """Return whether its revision begins so, or, with enough digits, its seal's id."""
    subject = _subject(one)
    if by_id:
        return len(digits or "") >= ID_DIGITS and subject.id.startswith(digits or "")
    return subject.revision.startswith(digits or "")


def _remembered(
    archive: Archive, repository: str, revision: str | None, *, every: bool
) -> Affected:
    """Return what is meant: what can be brought back, or else what only the journal knows."""
    events = list(archive.events(skip_damaged))
    told = forgotten(events)
    found = _in_trash(archive, repository, revision, told)
    gone = {
        event.snapshot: event
        for _, event in events
        if isinstance(event.detail, Sealed) and event.snapshot in told - found.keys()
        if _is_of(_subject(event), repository, revision)
    }
    if not found and not gone:
        raise UsageError(
            f"No snapshot of {repository} was forgotten.",
            hint=f"{command('list', archive.store.address)} shows what the archive holds.",
        )
    if any(_fits(one, revision, by_id=by_id) for one in found.values() for by_id in (False, True)):
        return Affected(_chosen(found.values(), repository, revision, every=every), [])
    there = {_subject(one).revision: one for one in gone.values()}
    by_id = not any(_fits(one, revision, by_id=False) for one in gone.values())
    latest = gone.values() if every or by_id else there.values()
    return Affected([], _chosen(latest, repository, revision, every=every))


def _in_trash(
    archive: Archive, repository: str, revision: str | None, told: frozenset[str]
) -> dict[str, Snapshot]:
    """Return the forgotten seals of a repository: in the trash, or back in use since a run died."""
    found: dict[str, Snapshot] = {}
    for one in archive.named(repository, None):
        if one.id in told:
            found[one.id] = one
    prefix = f"{layout.SNAPSHOTS}/{slug(as_repo_id(repository))}/"
    by_id = is_seal_id(repository, revision)
    for lying in discarded(archive.store):
        document = layout.document_of(lying.name)
        if lying.name.startswith(prefix) or (by_id and document):
            snapshot = archive.read_seal(lying.name, lying.where)
            if _is_of(_subject(snapshot), repository, revision):
                found.setdefault(snapshot.id, snapshot)
    return found


def _is_of(subject: _Subject, repository: str, revision: str | None) -> bool:
    """Return whether it is of a repository, or has the id that stands in the name's place."""
    same = subject.repository.casefold() == repository.casefold()
    return same or (is_seal_id(repository, revision) and subject.id.startswith(repository))


def _bring_back(archive: Archive, snapshot: Snapshot) -> None:
    """First what the seal stands on, then the seal; announced, as by everyone who seals."""
    name, needs = snapshot.name, Needs([snapshot])
    with announced(archive.store, closure_names(snapshot.seal)):
        trash = discarded(archive.store)
        bring_back(archive.store, trash, lambda one: one != name and needs.cover(one))
        recheck(archive, snapshot.seal)
        archive.manifest(snapshot.seal)
        bring_back(archive.store, trash, lambda one: one == name)
