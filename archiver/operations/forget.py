"""Forget: take seals out of use, and put them back; never needed in normal use.

What a seal stood on stays until it is pruned. A reference is a repository and the beginning of a commit or
of a seal's id, or that id alone. Where it names no seal that is there, what the journal says of those that
were pruned counts, so that a loss can be wished for, and wished away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

from archiver.archive import layout
from archiver.archive.advice import command
from archiver.archive.chain import Chain
from archiver.archive.clock import next_time
from archiver.archive.condemned import condemned
from archiver.archive.events import Event, Forgotten, Remembered, Sealed, Spared, new_event
from archiver.archive.places import forgotten, own_place
from archiver.archive.prune.condemn import Needs, batches, deletable_history
from archiver.archive.prune.trash import bring_back, discarded, removal_lock, reversible
from archiver.archive.publish import sealing
from archiver.archive.seals import ID_DIGITS, Snapshot, is_seal_id
from archiver.errors import UsageError, skip_damaged
from archiver.names import as_repo_id, slug

if TYPE_CHECKING:
    from collections.abc import Iterable

    from archiver.archive.archive import Archive
    from archiver.archive.prune.condemn import History

Subject = TypeVar("Subject", Snapshot, Event)
"""A snapshot, by its seal or by the event of its seal."""


class ForgetRequest(NamedTuple):
    """Which snapshots: of a repository, or of one revision; ``every``: though there are several."""

    repository: str
    revision: str | None = None
    every: bool = False
    dry_run: bool = False


class ForgetReport(NamedTuple):
    """What was forgotten or remembered: snapshots, and the events of those whose seals prune deleted."""

    snapshots: list[Snapshot]
    pruned: list[Event]


def forget(archive: Archive, request: ForgetRequest) -> ForgetReport:
    """Move seals to the trash; return those that went, or would.

    Where none of those that are meant is there, and prune deleted one that was then taken back, the
    journal says that it is not wanted after all.

    Raises:
        UsageError: There is none; or there are several, and neither a revision nor ``every`` chose.
        DamageError: The journal is not whole, or a seal of the repository is damaged.
        PolicyError: The policy forbids it.
        LockedError: Another process deletes.
        NotUnderstoodError: A pack or seal needs a newer version.
    """
    if request.dry_run:
        return _forgettable(archive, deletable_history(archive), request)
    archive.require_writable()
    archive.require_understood()
    with removal_lock(archive.store):
        history = deletable_history(archive)
        report = _forgettable(archive, history, request)
        time = next_time(history)
        # First the journal: a seal that is gone without it counts as lost.
        _record(archive, Forgotten, report, time)
        with reversible(archive.store, time) as discarding:
            for snapshot in report.snapshots:
                discarding.put(snapshot.name)
    return report


def remember(archive: Archive, request: ForgetRequest) -> ForgetReport:
    """Bring forgotten seals back from the trash, after all that they stand on; return those that came.

    Where none of those that are meant is in the trash any more, the journal says all the same that they
    are wanted, so that a copy, a mirror or a repair can bring them.

    Raises:
        UsageError: As for ``forget``.
        DamageError: A seal is damaged, or something that it stands on is gone for good.
        LockedError: Another process deletes.
    """
    if request.dry_run:
        return _rememberable(archive, request)
    archive.require_writable()
    with removal_lock(archive.store):
        report = _rememberable(archive, request)
        for snapshot in report.snapshots:
            _bring_back(archive, snapshot)
        events = list(archive.events(skip_damaged))
        _record(archive, Remembered, report, next_time(events))
        waiting = condemned(events, own_place(archive)).keys()
        for batch in batches(sorted(waiting & Needs(report.snapshots).names)):
            archive.record(new_event(Spared(batch), time=next_time(events)))
    return report


def _record(
    archive: Archive, kind: type[Forgotten | Remembered], report: ForgetReport, time: str
) -> None:
    subjects = [_Facts.of(subject) for subject in report.snapshots or report.pruned]
    revisions = {facts.revision for facts in subjects}
    revision = subjects[0].revision if len(revisions) == 1 else ""
    for batch in batches([facts.id for facts in subjects]):
        archive.record(new_event(kind(batch), subjects[0].repository, revision, time=time))


def _bring_back(archive: Archive, snapshot: Snapshot) -> None:
    """First what the seal stands on, then the seal; announced, as by everyone who seals."""
    store, seal, needs = archive.store, snapshot.name, Needs([snapshot])

    def bring_back_closure() -> None:
        bring_back(store, discarded(store), lambda name: name != seal and needs.cover(name))

    with sealing(archive, snapshot.seal, bring_back_closure):
        archive.manifest_file(snapshot.seal)
        bring_back(store, discarded(store), lambda name: name == seal)


def _forgettable(archive: Archive, history: History, request: ForgetRequest) -> ForgetReport:
    """Return what is meant: seals that are there, or else those that were pruned and are wanted again."""
    repository, revision = request.repository, request.revision
    present = archive.snapshots_of(repository)
    chain = Chain(history)
    deleted = chain.deleted() - {snapshot.id for snapshot in present}
    pruned = [
        event
        for event in chain.sealed()
        if event.snapshot in deleted
        if event.repository.casefold() == repository.casefold()
        if event.revision.startswith(revision or "")
    ]
    if pruned and not any(held.seal.revision.startswith(revision or "") for held in present):
        latest = pruned if request.every else {event.revision: event for event in pruned}.values()
        return ForgetReport([], _chosen(latest, request))
    if present:
        return ForgetReport(_chosen(present, request), [])
    snapshot = archive.find(repository)  # by its id alone; or the error says what is held
    if is_seal_id(repository, revision):
        return ForgetReport([snapshot], [])
    return ForgetReport(_chosen([], request), [])


def _rememberable(archive: Archive, request: ForgetRequest) -> ForgetReport:
    """Return what is meant: seals that can be brought back, or else those that only the journal knows."""
    events = list(archive.events(skip_damaged))
    ids = forgotten(events)
    trash = _in_trash(archive, request, ids)
    pruned = {
        event.snapshot: event
        for _, event in events
        if isinstance(event.detail, Sealed) and event.snapshot in ids - trash.keys()
        if _Facts.of(event).is_of(request)
    }
    if not trash and not pruned:
        raise UsageError(
            f"No snapshot of {request.repository} was forgotten.",
            hint=f"{command('list', archive.store.address)} shows what the archive holds.",
        )
    if _fitting(trash.values(), request.revision):
        return ForgetReport(_chosen(trash.values(), request), [])
    latest: Iterable[Event] = pruned.values()
    if not request.every and any(_begins(event, request.revision) for event in pruned.values()):
        latest = {event.revision: event for event in pruned.values()}.values()
    return ForgetReport([], _chosen(latest, request))


def _in_trash(archive: Archive, request: ForgetRequest, ids: frozenset[str]) -> dict[str, Snapshot]:
    """Return the forgotten seals of a repository: in the trash, or back in use since a run died."""
    repository, revision = request.repository, request.revision
    snapshots: dict[str, Snapshot] = {}
    for held in archive.named(repository, None):
        if held.id in ids:
            snapshots[held.id] = held
    prefix = f"{layout.SNAPSHOTS}/{slug(as_repo_id(repository))}/"
    by_id = is_seal_id(repository, revision)
    for file in discarded(archive.store):
        if file.name.startswith(prefix) or (by_id and layout.document_of(file.name)):
            snapshot = archive.read_seal(file.name, file.where)
            if _Facts.of(snapshot).is_of(request):
                snapshots.setdefault(snapshot.id, snapshot)
    return snapshots


# ---- which of several are meant


class _Facts(NamedTuple):
    """What a snapshot's seal, and the event of its seal, both say."""

    repository: str
    revision: str
    id: str

    @classmethod
    def of(cls, subject: Snapshot | Event) -> _Facts:
        if isinstance(subject, Event):
            return cls(subject.repository, subject.revision, subject.snapshot)
        return cls(subject.seal.repository, subject.seal.revision, subject.id)

    def is_of(self, request: ForgetRequest) -> bool:
        """Return whether it is of the repository, or has the id that stands in the name's place."""
        if self.repository.casefold() == request.repository.casefold():
            return True
        by_id = is_seal_id(request.repository, request.revision)
        return by_id and self.id.startswith(request.repository)


def _begins(subject: Snapshot | Event, digits: str | None) -> bool:
    return _Facts.of(subject).revision.startswith(digits or "")


def _fitting(subjects: Iterable[Subject], digits: str | None) -> list[Subject]:
    """Return those whose revision begins so; or else, with enough digits, those whose seal's id does."""
    listed = list(subjects)
    fitting = [subject for subject in listed if _begins(subject, digits)]
    if not fitting and len(digits or "") >= ID_DIGITS:
        fitting = [subject for subject in listed if _Facts.of(subject).id.startswith(digits or "")]
    return fitting


def _chosen(subjects: Iterable[Subject], request: ForgetRequest) -> list[Subject]:
    """Return those that are meant; raise UsageError if that is not sure."""
    repository, revision = request.repository, request.revision
    fitting = _fitting(subjects, revision)
    revisions = sorted({_Facts.of(subject).revision for subject in fitting})
    if not fitting:
        raise UsageError(f"{repository}@{revision or ''} is not there.".replace("@ ", " "))
    if revision and len(revisions) > 1:
        held = ", ".join(commit[:12] for commit in revisions[:8])
        raise UsageError(f"Revision {revision} of {repository} fits several: {held}.")
    if not revision and len(fitting) > 1 and not request.every:
        raise UsageError(
            f"{repository} has {len(fitting)} snapshots.",
            hint="Name one as REPO@REVISION, or all of them with --all.",
        )
    return fitting
