"""The steps of a night that ask upstream: a look at everything first, then only what moved is mirrored."""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from archiver.archive.events import PlannedEntry
from archiver.archive.places import own_place
from archiver.archive.plans import Plans, covers, vouched_in
from archiver.archive.watch import ChangeKind
from archiver.errors import ExitCode, TokenError, skip_damaged
from archiver.names import RepositoryName
from archiver.night.facts import Fact, ringing_code, worst
from archiver.night.result import ERRORS_MAX, Outcome, StepError, StepResult
from archiver.operations.mirror.report import MirrorReport
from archiver.operations.sync import SyncRequest, sync
from archiver.operations.watch import (
    WatchProgress,
    WatchReport,
    WatchRequest,
    entries_of,
    watch,
    watched_hubs,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from archiver.archive.archive import Archive
    from archiver.archive.events import UpstreamChange
    from archiver.archive.seals import Snapshot
    from archiver.errors import ArchiverError
    from archiver.night.plan_mirror import PlanMirror
    from archiver.night.progress import NightProgress
    from archiver.operations.watch import WatchedRepository
    from archiver.plan.budget import RunBudget
    from archiver.plan.document import Plan, PlannedRepository
    from archiver.upstream.protocol import WatchedUpstream
    from archiver.upstream.resolution import Finder, RefsState

_log = logging.getLogger(__name__)

_RINGING: Final = frozenset[ChangeKind](
    {"gone", "disabled", "identity", "commit-lost", "licence", "gating", "name", "privacy"}
)
"""The changes that an owner is to be told of at once: what was lost, and what may be lost next."""
_COMMIT_SHOWN: Final = 12
"""Digits of a commit in a fact: the journal has all of them."""


# ---- looking


class Sightings(msgspec.Struct, frozen=True):
    """What a night's look at upstream gave: a report of each hub, by its name."""

    reports: dict[str, WatchReport] = {}

    @property
    def repositories(self) -> dict[str, WatchedRepository]:
        """What was looked at, by its name without case."""
        return {
            repository.repository.casefold(): repository
            for report in self.reports.values()
            for repository in report.repositories
        }

    @property
    def unseen(self) -> frozenset[str]:
        """The names, without case, of what is not shown to us, and that may be gone or not."""
        return frozenset(
            name for name, repository in self.repositories.items() if repository.outcome == "unseen"
        )

    @property
    def unreachable(self) -> frozenset[str]:
        """The hubs that could not be reached."""
        return frozenset(hub for hub, report in self.reports.items() if report.count("unreachable"))

    @property
    def token_refused(self) -> frozenset[str]:
        """The hubs that do not take the token."""
        return frozenset(hub for hub, report in self.reports.items() if report.token_refused)


def watch_step(
    archive: Archive, plan: Plan, connect: Callable[[str], WatchedUpstream]
) -> tuple[StepResult, Sightings]:
    """Look at all that the plan stands for, hub by hub, and journal what upstream did.

    ``connect`` gives a hub by its name.
    """
    entries = entries_of(archive, plan)
    seen = Sightings(
        {
            hub: watch(archive, WatchRequest(connect(hub), entries, hub), WatchProgress())
            for hub in watched_hubs(archive, entries)
        }
    )
    return _result_of(seen), seen


def _result_of(sightings: Sightings) -> StepResult:
    repositories = list(sightings.repositories.values())
    facts = [
        Fact("changed", f"{seen.repository} {_what(change)}", int(ExitCode.UPSTREAM_GONE), "watch")
        for seen in repositories
        for change in seen.news
        if change.what in _RINGING or change.history == "rewritten"
    ]
    reports = sightings.reports.values()
    for hub, report in sightings.reports.items():
        if report.token_refused:
            facts.append(Fact("token", report.upstream, int(ExitCode.UPSTREAM_GONE), "watch"))
        elif report.count("unreachable"):
            facts.append(Fact("upstream", hub, int(ExitCode.NETWORK), "watch"))
    errors = [
        StepError(seen.error, seen.hint, seen.exit_code, seen.repository)
        for seen in repositories
        if seen.error and seen.exit_code
    ]
    outcome: Outcome = "done" if any(seen.changes for seen in repositories) else "idle"
    if any(report.token_refused for report in reports) or any(
        seen.outcome in {"unreachable", "failed"} for seen in repositories
    ):
        outcome = "failed"
    counts = {
        "repositories": len(repositories),
        "changed": sum(report.count("changed") for report in reports),
        "unseen": sum(report.count("unseen") + report.count("gone") for report in reports),
        "requests": sum(report.requests for report in reports),
    }
    code = worst(fact.exit_code for fact in facts)
    return StepResult("watch", outcome, code, tuple(facts), tuple(errors[:ERRORS_MAX]), counts)


def _what(change: UpstreamChange) -> str:
    """Return what changed, as a part of the subject of a fact: each change is one of its own."""
    name = f" {change.name}" if change.name else ""
    after = change.after[:_COMMIT_SHOWN] if change.history else change.after[:40]
    to = f" {after}" if after else ""
    return f"{change.history or change.what}{name}{to}"


# ---- mirroring


class EntryErrors:
    """Keeps what failed of the entries of a plan, and hands everything on to who shows it.

    What was ``seen`` when the hubs were looked at is told: which of them could not be reached, or do not
    take the token. ``unknown`` counts the entries of which nothing is known for that.
    """

    def __init__(self, shown: NightProgress, seen: Sightings) -> None:
        self._shown = shown
        self._seen = seen
        self.unknown = 0
        self.errors: list[StepError] = []
        self.unprotected: list[int] = []

    def mirrored(self, report: MirrorReport) -> None:
        """Note the files that got no parity."""
        self.unprotected += [failure.exit_code for failure in report.unprotected]
        about = {"repository": report.repository, "size": report.bytes}
        _log.info("%s@%s: %s", report.repository, report.revision, report.outcome, extra=about)
        self._shown.mirrored(report)

    def failed(self, planned: PlannedRepository, error: ArchiverError) -> None:
        """Keep the error, unless it says what is known."""
        if error.exit_code == ExitCode.NETWORK and planned.hub in self._seen.unreachable:
            return
        if isinstance(error, TokenError) and planned.hub in self._seen.token_refused:
            self.unknown += 1
            return
        if len(self.errors) < ERRORS_MAX:
            code = int(error.exit_code)
            self.errors.append(StepError(error.message, error.hint, code, planned.title))
        self._shown.failed(planned, error)

    def acknowledged(self, planned: PlannedRepository, error: ArchiverError) -> None:
        """Hand on."""
        self._shown.acknowledged(planned, error)


class WatchedMirror:
    """Mirrors entries as ``PlanMirror`` does, but asks nothing about what was just seen to be held.

    An entry is held if this night's look saw its name at a commit of which the archive has a snapshot that
    covers the entry. So a night on which nothing moved sends no request more than the looks.
    """

    def __init__(self, archive: Archive, mirror: PlanMirror, seen: Sightings) -> None:
        self._archive = archive
        self._mirror = mirror
        self._seen = seen.repositories
        self._opened = False
        self._sighted: dict[tuple[str, str], dict[str, str]] | None = None

    def open(self) -> None:
        """Do nothing yet: the catalogue is opened once something is to be mirrored."""
        self._archive.require_writable()

    def finder(self) -> Finder:
        """Return what says which repositories there are, and what was seen of those that were looked at."""
        return _SeenFinder(self._mirror.finder(), self._seen)

    def mirror(self, planned: PlannedRepository, budget: RunBudget | None = None) -> MirrorReport:
        """Mirror an entry, or say that it is held."""
        held = self._held(planned)
        if held is not None:
            totals = held.seal.totals
            return MirrorReport(
                repository=held.seal.repository,
                revision=held.seal.revision,
                outcome="held",
                files=totals.files,
                bytes=totals.bytes,
                held_files=totals.files,
                held_bytes=totals.bytes,
                to_fetch_bytes=0,
                snapshot=held.id,
            )
        if not self._opened:
            self._mirror.open()
            self._opened = True
        return self._mirror.mirror(planned, budget)

    def partial_bytes(self) -> tuple[int, int]:
        """Return what was fetched and stored of the last entry."""
        return self._mirror.partial_bytes()

    def _held(self, planned: PlannedRepository) -> Snapshot | None:
        """Return the snapshot that is all an entry wants by what was seen; None if that is not sure."""
        seen = self._seen.get(planned.name.casefold())
        main = RepositoryName.parse(planned.name).main_branch
        commit = seen.refs.get(planned.revision or main) if seen else None
        if not commit:
            return None
        if self._sighted is None:
            events = self._archive.standing_events()
            self._sighted = Plans(events, own_place(self._archive)).upstreams.sighted
        entry = PlannedEntry(planned.name, planned.revision or "", planned.include, planned.exclude)
        sighted = self._sighted.get(entry.key, {})
        if not sighted or max(sighted, key=sighted.__getitem__) != commit:
            return None  # a run that mirrors has to see it there, and to journal that
        is_vouched = vouched_in(self._archive)
        held = self._archive.snapshots_of(planned.name, on_damage=skip_damaged)
        fitting = (
            snapshot
            for snapshot in held
            if snapshot.seal.revision == commit and covers(entry, snapshot) and is_vouched(snapshot)
        )
        return next(fitting, None)


class _SeenFinder:
    """Asks upstream what there is, but not for branches and tags that this night's look has seen."""

    def __init__(self, finder: Finder, seen: dict[str, WatchedRepository]) -> None:
        self._finder = finder
        self._seen = seen

    def repositories_of(self, author: str) -> tuple[str, ...]:
        """Return the spellings of all that an author has."""
        return self._finder.repositories_of(author)

    def collection(self, slug: str) -> tuple[str, ...]:
        """Return the spellings of what a collection lists."""
        return self._finder.collection(slug)

    def look(self, repository: str) -> RefsState:
        """Return a repository's branches and tags."""
        seen = self._seen.get(repository.casefold())
        if seen is not None and seen.branches is not None and seen.tags is not None:
            return seen
        return self._finder.look(repository)


class SyncStep(NamedTuple):
    """What mirroring a plan needs; what was looked at in this night is ``seen``, and not asked again."""

    plan: Plan
    source: str
    mirror: PlanMirror
    min_free: int
    shown: NightProgress
    seen: Sightings = Sightings()
    budget: RunBudget | None = None

    def run(self, archive: Archive) -> StepResult:
        """Mirror the plan; what fails for an entry is told by the look at it all in the end."""
        listener = EntryErrors(self.shown, self.seen)
        request = SyncRequest(
            self.plan,
            WatchedMirror(archive, self.mirror, self.seen),
            self.source,
            self.min_free,
            budget=self.budget,
            unreachable=self.seen.unreachable,
        )
        report = sync(archive, request, listener)
        if self.mirror.open_error:
            raise self.mirror.open_error
        failures = Counter(report.exit_codes)
        # What is not shown is judged by the look, after some nights; that a token is not taken it told.
        failures[int(ExitCode.UPSTREAM_GONE)] -= len(report.unseen) + listener.unknown
        codes = [*map(ringing_code, +failures), *listener.unprotected]
        facts = [Fact("upstream", hub, int(ExitCode.NETWORK), "sync") for hub in report.unreachable]
        if report.ended == ExitCode.NO_SPACE:
            codes.append(int(ExitCode.NO_SPACE))
            facts.append(Fact("room", "", int(ExitCode.NO_SPACE), "sync"))
        outcome: Outcome = "failed" if codes else "done" if report.new else "idle"
        if report.ended == ExitCode.INTERRUPTED:
            outcome = "cut"
        counts = {
            "total": report.total,
            "done": report.done,
            "new": report.new,
            "failed": len(report.failed),
            "unseen": len(report.unseen),
            "gone": len(set(report.gone) - set(report.acknowledged)),
            "acknowledged": len(report.acknowledged),
            "not_tried": len(report.not_tried),
            "unresolved": len(report.unresolved),
            "fetched_bytes": report.fetched,
            "stored_bytes": report.stored,
        }
        return StepResult(
            "sync", outcome, worst(codes), tuple(facts), tuple(listener.errors), counts
        )
