"""Sync: mirror everything a plan lists; what fails is reported and the rest is still done.

The plan is journalled before anything is asked, and again once upstream has said what its patterns,
authors and collections stand for; what came of the run at its end. So a status can judge what is held by
what is wanted.
"""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext
from time import monotonic
from typing import TYPE_CHECKING, Final, Generic, Literal, NamedTuple, Protocol, TypeVar

import msgspec

from archiver.archive.events import Outcome, Planned, Stopped, Synced, new_event
from archiver.archive.journal import EVENT_MAX
from archiver.archive.places import own_place, settled_place
from archiver.archive.plans import KnownPlan, Plans, outcome_of, planned_of
from archiver.archive.records import canonical
from archiver.archive.watch import awaits_verdict
from archiver.errors import (
    ArchiverError,
    BudgetSpentError,
    ExitCode,
    UnseenError,
    UsageError,
    explain_system_error,
    skip_damaged,
)
from archiver.storage.locks import RunLock
from archiver.storage.store import local_folder
from archiver.text import plural, utc_after, utc_now
from archiver.upstream.read_watches import RunEnd, watching
from archiver.upstream.resolution import resolve

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from archiver.archive.archive import Archive
    from archiver.plan.budget import RunBudget
    from archiver.plan.document import Plan, PlannedRepository
    from archiver.upstream.resolution import Finder

_UNREACHABLE: Final = 2
"""Repositories in a row that could not be reached, after which the others are not tried."""
_PLAN_MAX: Final = EVENT_MAX - (64 << 10)
"""What a plan may take in the journal, in bytes, with room for what else an event says."""
LEAST_RATIO: Final = 0.6
"""Weights that are stored for the first time take at least this much of their size."""


Room = Literal["enough", "unsure", "too-little"]
"""Whether what is to be fetched fits: also uncompressed, perhaps, or in no case."""


class Mirrored(Protocol):
    """What is reported of one entry: sizes in bytes, of what was fetched or, in a dry run, would be."""

    @property
    def outcome(self) -> str:
        """``sealed``, ``held`` or ``planned``."""

    @property
    def to_fetch_bytes(self) -> int:
        """Plain bytes."""

    @property
    def stored_bytes(self) -> int:
        """Bytes of packs."""


Report = TypeVar("Report", bound=Mirrored)
Report_co = TypeVar("Report_co", bound=Mirrored, covariant=True)
Report_contra = TypeVar("Report_contra", bound=Mirrored, contravariant=True)


class EntryMirror(Protocol[Report_co]):
    """Mirrors the entries of a plan, one after the other."""

    def open(self) -> None:
        """Make ready, once the plan is journalled. An ArchiverError ends the run, and nothing is tried."""

    def finder(self) -> Finder:
        """Return what says which repositories there are; only asked of a plan that needs it."""

    def mirror(self, planned: PlannedRepository, budget: RunBudget | None = None) -> Report_co:
        """Mirror an entry, within what the run may take, or raise."""

    def partial_bytes(self) -> tuple[int, int]:
        """Return the plain bytes that were fetched of an entry that just failed, and those stored."""


class SyncProgress(Protocol[Report_contra]):
    """What a run tells of its course, entry by entry."""

    def mirrored(self, report: Report_contra) -> None:
        """An entry was mirrored, or was held already."""

    def failed(self, planned: PlannedRepository, error: ArchiverError) -> None:
        """One was not. Those that are not tried are named in the report only."""

    def acknowledged(self, planned: PlannedRepository, error: ArchiverError) -> None:
        """Upstream does not give one, and its owner has acknowledged that."""


class SyncRequest(NamedTuple, Generic[Report]):
    """Which plan to run, and how.

    Attributes:
        plan: What to mirror, in its order.
        mirror: What mirrors an entry.
        source: How the plan was named, for whoever is to run it again.
        min_free: How many bytes must stay free.
        dry_run: Whether nothing is to be journalled.
        budget: What the run may take; None: as much as it needs.
        unreachable: Hubs that could not be reached just now: they are asked once more, and then no more.
    """

    plan: Plan
    mirror: EntryMirror[Report]
    source: str = ""
    min_free: int = 0
    dry_run: bool = False
    budget: RunBudget | None = None
    unreachable: frozenset[str] = frozenset()


class SyncReport(msgspec.Struct, frozen=True):
    """How a run of a plan went.

    ``total`` counts entries, of which each is among those that are ``done``, ``failed``, ``gone``,
    ``unseen``, ``acknowledged`` or ``not_tried``; some of those that are gone may be acknowledged.
    ``done`` counts the entries that are held as upstream has them, ``new`` those that were sealed now;
    ``unseen`` are held and watched, and not shown to us: whoever watches them says when they are gone.
    ``unresolved`` names patterns, authors and collections of which upstream did not say what they stand for
    now. ``exit_codes`` are of what failed, entries or not. ``unreachable`` are hubs that could not be
    reached. ``ended`` is the code of what ended the run before its end,
    such as 31, 130, or 30 if upstream could not be reached, else 0. Sizes are in bytes: ``fetched``
    plain ones (in a dry run those to be fetched), ``stored`` in packs, both also of what failed half-way;
    ``free`` what is left on the disk (-1: not known). ``room`` says of a dry run whether what is to be
    fetched fits. ``stopped`` says what of the run's budget was used up, where that ended it: that is no
    failure, and what was not tried comes next time. ``appeared`` are entries that a pattern, author or
    collection did not stand for before.
    """

    plan: str
    total: int
    done: int
    exit_codes: tuple[int, ...]
    new: int
    held: int
    failed: tuple[str, ...]
    gone: tuple[str, ...]
    acknowledged: tuple[str, ...]
    not_tried: tuple[str, ...]
    ended: int
    fetched: int
    stored: int
    seconds: int
    free: int
    min_free: int
    dry_run: bool = False
    room: Room | Literal[""] = ""
    stopped: Stopped | Literal[""] = ""
    appeared: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()
    unresolved: tuple[str, ...] = ()
    unreachable: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """What the run ends with, as far as entries go: 3 if some failed, and not all for one reason."""
        codes = set(self.exit_codes)
        if self.ended and self.ended != ExitCode.NETWORK:
            return self.ended
        if len(self.exit_codes) >= self.total and len(codes) == 1:
            return codes.pop()
        return int(ExitCode.PARTIAL) if codes else 0


class _Result(NamedTuple):
    """What came of one entry; ``code`` is 0 unless it failed, ``unseen`` as in the report."""

    outcome: Outcome | Literal["planned"]
    code: int = 0
    acknowledged: bool = False
    unseen: bool = False


def sync(
    archive: Archive, request: SyncRequest[Report], progress: SyncProgress[Report]
) -> SyncReport:
    """Mirror each entry of a plan, one run of a plan at a time.

    A full disk, an interruption and an upstream that cannot be reached end the run; the report says so.

    Raises:
        LockedError: Another process runs this plan.
        UnknownFormatError: The archive needs a newer writer.
        UsageError: The plan is too large for the journal.
    """
    archive.require_writable()
    name = request.plan.name
    run = _Run(archive, request, progress)
    lock = local_folder(archive.store).scratch(f"plan-{name}.lock")
    with RunLock(lock, f"The plan {name}"):
        try:
            # The plan comes first: of a run that dies a status still knows what was wanted.
            if run.journal_plan() and run.resolve() and run.open():
                run.mirror_all()
        except KeyboardInterrupt:
            run.ended = int(ExitCode.INTERRUPTED)
        report = run.report()
        run.journal_report(report)
    return report


class _Run(Generic[Report]):
    """One run of a plan."""

    def __init__(
        self, archive: Archive, request: SyncRequest[Report], progress: SyncProgress[Report]
    ) -> None:
        self._archive = archive
        self._request = request
        self._progress = progress
        plan = self._plan = request.plan
        place = own_place(archive) if request.dry_run else settled_place(archive)
        self._plans = Plans(archive.standing_events(), place)
        self._started = monotonic()
        self._place = place
        before = self._plans.find(plan.name)
        self._before = before.planned.entries if before else ()
        self._resolution = resolve(plan, self._before, None)
        self._planned = self._resolved()
        self._known = before or KnownPlan("", "", self._planned, "", -1, {})
        self._results: list[_Result] = []
        self._codes: list[int] = []
        """Exit codes of what failed besides entries."""
        self._unresolved: list[str] = []
        """Titles of that."""
        self._failures = Counter[str](dict.fromkeys(request.unreachable, _UNREACHABLE - 1))
        """Hub -> how many repositories in a row could not be reached there."""
        self._stopped: Stopped | Literal[""] = ""
        self._fetched = self._stored = 0
        self.ended = 0

    def _resolved(self) -> Planned:
        """Return what the journal says of the plan, of which each entry stands for one thing now."""
        entries = self._resolution.entries
        self._plan = msgspec.structs.replace(self._request.plan, repositories=entries)
        return planned_of(self._plan, self._place.key, self._request.source)

    def resolve(self) -> bool:
        """Ask upstream what the plan stands for, where only that can say; journal it as `journal_plan`.

        Return False also if the run's time was over before upstream had said it.
        """
        if not self._request.plan.is_open:
            return True
        finder = self._request.mirror.finder()
        try:
            with self._within_budget(f"The plan {self._plan.name}"):
                self._resolution = resolve(self._request.plan, self._before, finder)
        except BudgetSpentError as error:
            self._stopped = error.spent
            return False
        self._planned = self._resolved()
        return self.journal_plan()

    def journal_plan(self) -> bool:
        """Journal the plan unless this place knows it so; return False if the disk is too full for that."""
        if len(canonical(self._planned)) > _PLAN_MAX:
            raise UsageError(
                f"The plan {self._plan.name} lists too much for one event of the journal: "
                f"{plural(len(self._plan.repositories), 'repository', 'repositories')}.",
                hint="Split it into several plans, each with a name of its own.",
            )
        if self._known.planned == self._planned and self._known.id:
            return True
        # In a second of its own: the newest event counts.
        time = max(self._plans.next_time(), utc_after(self._known.time))
        event = new_event(self._planned, time=time)
        digest = ""
        try:
            digest = "" if self._request.dry_run else self._archive.record(event)
        except ArchiverError as error:
            if error.exit_code != ExitCode.NO_SPACE:
                raise
            self._fail(self._plan.repositories[0], error)
            return False
        self._known = self._known._replace(id=digest, time=event.time, planned=self._planned)
        return True

    def open(self) -> bool:
        """Make ready to mirror; return whether that went well."""
        try:
            self._request.mirror.open()
        except ArchiverError as error:
            self.ended = int(error.exit_code)
            return False
        return True

    def journal_report(self, report: SyncReport) -> None:
        """Journal what came of the run; where that cannot be written, the run has failed by itself."""
        if self._request.dry_run or not self._known.id:
            return
        outcomes: list[Outcome] = []
        for result in self._results:
            outcomes += [result.outcome] if result.outcome != "planned" else []
        remaining: list[Outcome] = ["not-tried"] * (len(self._planned.entries) - len(outcomes))
        synced = Synced(
            plan=self._plan.name,
            place=self._planned.place,
            planned=self._known.id,
            outcomes=(*outcomes, *remaining),
            exit_code=report.exit_code,
            seconds=report.seconds,
            fetched=report.fetched,
            stored=report.stored,
            free=report.free,
            min_free=self._request.min_free,
            stopped=self._stopped or msgspec.UNSET,
        )
        time = max(self._plans.next_time(), utc_after(self._known.time))
        try:
            self._archive.record(new_event(synced, time=time))
        except ArchiverError:
            if not report.exit_code:
                raise

    def mirror_all(self) -> None:
        """Mirror every entry, until there is no sense in going on."""
        unknown = self._tell_resolution()
        for planned in self._plan.repositories:
            if planned.title in unknown:
                self._fail(planned, unknown[planned.title])
                continue
            if self._is_spent():
                return
            if self._failures[planned.hub] >= _UNREACHABLE:
                self.ended = int(ExitCode.NETWORK)
                self._results.append(_Result("not-tried", int(ExitCode.NETWORK)))
                continue
            try:
                report = self._mirror(planned)
            except BudgetSpentError as error:
                self._count_partial()
                self._results.append(_Result("interrupted"))
                self._stopped = error.spent
                return
            except ArchiverError as error:
                self._count_partial()
                self._fail(planned, error)
                if error.exit_code == ExitCode.NO_SPACE:
                    return
                failures = self._failures[planned.hub] + 1
                self._failures[planned.hub] = failures * (error.exit_code == ExitCode.NETWORK)
                continue
            except KeyboardInterrupt:
                self._count_partial()
                self._results.append(_Result("interrupted"))
                raise
            self._failures[planned.hub] = 0
            outcomes: dict[str, Outcome | Literal["planned"]]
            outcomes = {"held": "held", "planned": "planned"}
            self._results.append(_Result(outcomes.get(report.outcome, "sealed")))
            self._fetched += report.to_fetch_bytes if report.outcome != "held" else 0
            self._stored += report.stored_bytes
            self._progress.mirrored(report)

    def _tell_resolution(self) -> dict[str, ArchiverError]:
        """Tell what upstream did not say; return why entries, by their titles, are as they were written.

        Where it is known from before what such an entry stands for, that is mirrored, and it is one more
        thing that failed.
        """
        unknown: dict[str, ArchiverError] = {}
        titles = {planned.title for planned in self._plan.repositories}
        for written, error in self._resolution.unresolved:
            if written.title in titles:
                unknown[written.title] = error
            else:
                self._codes.append(int(error.exit_code))
                self._unresolved.append(written.title)
                self._progress.failed(written, error)
        return unknown

    def _is_spent(self) -> bool:
        """Return whether the run's budget is used up, and so ended it."""
        if self._request.budget is not None:
            self._stopped = self._request.budget.spent
        return bool(self._stopped)

    def _mirror(self, planned: PlannedRepository) -> Report:
        try:
            with self._within_budget(planned.title):
                return self._request.mirror.mirror(planned, self._request.budget)
        except OSError as error:
            raise explain_system_error(error, f"{planned.title} was mirrored") from error

    def _within_budget(self, what: str) -> AbstractContextManager[None]:
        """Have what is asked of upstream end with the run's time, and its window."""
        budget = self._request.budget
        return watching(RunEnd(budget, what)) if budget is not None else nullcontext()

    def _count_partial(self) -> None:
        """Count what came of an entry before it failed: it was fetched and stored all the same."""
        fetched, stored = self._request.mirror.partial_bytes()
        self._fetched += fetched
        self._stored += stored

    def _fail(self, planned: PlannedRepository, error: ArchiverError) -> None:
        outcome = outcome_of(error)
        acknowledged = self._is_acknowledged(outcome)
        code = 0 if acknowledged else int(error.exit_code)
        unseen = bool(code) and isinstance(error, UnseenError)
        # It may be private, or hidden for a night: whoever watches it says when it is gone.
        unseen = unseen and awaits_verdict(self._archive.standing_events(), planned.name)
        outcome = "unreachable" if unseen else outcome
        self._results.append(_Result(outcome, code, acknowledged, unseen))
        if error.exit_code == ExitCode.NO_SPACE:
            self.ended = int(ExitCode.NO_SPACE)
        if acknowledged:
            self._progress.acknowledged(planned, error)
        else:
            self._progress.failed(planned, error)

    def _is_acknowledged(self, outcome: Outcome) -> bool:
        """Return whether the owner knows that upstream does not give this entry, and it is held."""
        entry = self._planned.entries[len(self._results)]
        if not self._plans.acknowledged(self._known, entry, outcome, utc_now()):
            return False
        held = self._archive.snapshots_of(entry.repository, on_damage=skip_damaged)
        return self._plans.covering(entry, held) is not None

    def report(self) -> SyncReport:
        """Return the run in figures."""
        entries = list(zip(self._planned.entries, self._results, strict=False))
        never_begun = self._planned.entries[len(self._results) :]
        unfinished = {"not-tried", "interrupted"}
        not_tried = [entry.title for entry, result in entries if result.outcome in unfinished]
        free = _free(self._archive)
        return SyncReport(
            plan=self._plan.name,
            total=len(self._planned.entries),
            done=sum(result.outcome in {"sealed", "held", "planned"} for result in self._results),
            exit_codes=(
                *(result.code for result in self._results if result.code),
                *self._codes,
            ),
            new=sum(result.outcome == "sealed" for result in self._results),
            held=sum(result.outcome == "held" for result in self._results),
            failed=tuple(
                entry.title
                for entry, result in entries
                if result.code and not result.unseen and result.outcome not in {"not-tried", "gone"}
            ),
            unseen=tuple(entry.title for entry, result in entries if result.unseen),
            gone=tuple(entry.title for entry, result in entries if result.outcome == "gone"),
            acknowledged=tuple(entry.title for entry, result in entries if result.acknowledged),
            not_tried=(*not_tried, *(entry.title for entry in never_begun)),
            ended=self.ended,
            fetched=self._fetched,
            stored=self._stored,
            seconds=int(monotonic() - self._started),
            free=free,
            min_free=self._request.min_free,
            dry_run=self._request.dry_run,
            room=self._room(free) if self._request.dry_run else "",
            stopped=self._stopped,
            appeared=tuple(planned.title for planned in self._resolution.appeared),
            unresolved=tuple(self._unresolved),
            unreachable=tuple(self._unreachable()),
        )

    def _unreachable(self) -> Iterator[str]:
        """Yield the hubs of what could not be asked for."""
        network = int(ExitCode.NETWORK)
        hubs = {
            planned.hub
            for planned, result in zip(self._plan.repositories, self._results, strict=False)
            if result.code == network
        }
        hubs |= {
            written.hub
            for written, error in self._resolution.unresolved
            if error.exit_code == network
        }
        yield from sorted(hubs)

    def _room(self, free: int) -> Room:
        left = free - self._request.min_free
        if free < 0:
            return "unsure"
        if left < self._fetched * LEAST_RATIO:
            return "too-little"
        return "enough" if left >= self._fetched else "unsure"


def _free(archive: Archive) -> int:
    try:
        free = archive.store.free_bytes()
    except OSError:
        return -1
    return -1 if free is None else free


def compare_collection(plan: Plan, listed: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Return repositories that the collection has and the plan has not, and the other way round."""
    names = [planned.name for planned in plan.repositories]
    in_plan = {name.casefold() for name in names}
    in_collection = {name.casefold() for name in listed}
    new = [name for name in listed if name.casefold() not in in_plan]
    return new, [name for name in names if name.casefold() not in in_collection]
