"""A night: everything that an archive needs from a plan, in one go, under one lock, and what it came to.

No step keeps another from being run: what fails is told, and the rest is still done. At the end the archive
is looked at as a whole; what that shows and no earlier night told is news, and decides the exit code.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import msgspec

from archiver.archive.events import NightRun, new_event
from archiver.archive.places import settled_place
from archiver.errors import ArchiverError, ExitCode, explain_system_error
from archiver.memory import MemoryBudget
from archiver.night.deadline import Deadline
from archiver.night.facts import FACTS_MAX, STATE, Fact, News, facts_of, last_night, news
from archiver.night.result import StepResult, failed_step
from archiver.night.steps import (
    SyncStep,
    audit_step,
    copies_step,
    parity_step,
    sign_step,
)
from archiver.operations.status.run import status
from archiver.progress import stop_requested
from archiver.storage.locks import RunLock
from archiver.storage.store import local_folder
from archiver.text import wall_clock

if TYPE_CHECKING:
    from collections.abc import Callable

    from archiver.archive.archive import Archive
    from archiver.night.plan_mirror import PlanMirror
    from archiver.night.progress import NightProgress
    from archiver.operations.status.report import Status
    from archiver.plan.document import Plan

Cut = Literal["", "window", "stopped", "outside"]
"""Why a night ended before its end: its window did, somebody stopped it, or it was not its time."""

STEPS: Final = ("sync", "parity", "copies", "audit", "sign")
"""The steps, in their order."""


class NightRequest(NamedTuple):
    """Which plan, and how.

    Attributes:
        plan: What to mirror.
        source: The plan's file, or its name.
        mirror: What mirrors its entries; it is opened by the night.
        min_free: How many bytes must stay free.
        memory: What it may take.
    """

    plan: Plan
    source: str
    mirror: PlanMirror
    min_free: int = 0
    memory: MemoryBudget = MemoryBudget()


class NightReport(msgspec.Struct, frozen=True):
    """How a night went.

    ``event`` is the id of its summary in the journal; ``""`` if nothing was done and nothing is news, or
    it could not be written. ``seconds`` is how long it took.
    """

    plan: str
    exit_code: int
    cut: Cut
    steps: tuple[StepResult, ...]
    news: News
    seconds: int
    event: str = ""


def night(archive: Archive, request: NightRequest, progress: NightProgress) -> NightReport:
    """Run a night of a plan; outside of its window nothing is done.

    Raises:
        LockedError: Another process runs a night of this plan.
        UnknownFormatError: The archive needs a newer writer.
        DeniedError: Nothing may be written to it.
    """
    archive.require_writable()
    archive.store.require_writable()
    name, seconds = request.plan.name, None
    if request.plan.window is not None:
        now = wall_clock()
        end = request.plan.window.ends_at(now)
        if end is None:
            return NightReport(name, 0, "outside", (), News((), (), ()), 0)
        seconds = (end - now).total_seconds()
    lock = local_folder(archive.store).scratch(f"night-{name}.lock")
    with RunLock(lock, f"The night of the plan {name}"):
        return _Night(archive, request, progress, seconds).run()


class _Night:
    """One night."""

    def __init__(
        self,
        archive: Archive,
        request: NightRequest,
        progress: NightProgress,
        seconds: float | None,
    ) -> None:
        self._archive = archive
        self._request = request
        self._progress = progress
        self._started = time.monotonic()
        self._results: list[StepResult] = []
        self._deadline = Deadline(seconds)
        self._cut: Cut = ""

    def run(self) -> NightReport:
        with self._deadline:
            for step in STEPS:
                self._do(step, self._steps()[step])
        # What is left takes seconds, and is done whatever ended the night.
        place = settled_place(self._archive)
        before = last_night(self._archive, self._request.plan.name, place)
        facts = [fact for result in self._results for fact in result.facts]
        judged = {result.step for result in self._results if result.outcome in _JUDGED}
        try:
            facts += self._state_facts(status(self._archive))
            judged.add(STATE)
        except ArchiverError as error:
            result = failed_step(STATE, error)
            self._results.append(result)
            facts += result.facts
        told = news(facts, before, judged)
        code = told.exit_code
        if self._cut == "stopped" and not code:
            code = int(ExitCode.INTERRUPTED)
        report = NightReport(
            plan=self._request.plan.name,
            exit_code=code,
            cut=self._cut,
            steps=tuple(self._results),
            news=told,
            seconds=int(time.monotonic() - self._started),
        )
        return self._journal(report, place.key)

    def _steps(self) -> dict[str, Callable[[], StepResult] | None]:
        """Return what each step calls; None of one that was not asked for."""
        request, archive, memory = self._request, self._archive, self._request.memory
        meter = self._progress.meter
        sync = SyncStep(
            request.plan, request.source, request.mirror, request.min_free, self._progress
        )
        chores = request.plan.night
        audit, key = chores.audit, chores.sign
        changed = any(result.outcome == "done" for result in self._results)
        return {
            "sync": lambda: sync.run(archive),
            "parity": (lambda: parity_step(archive, memory, meter)) if chores.parity else None,
            "copies": (lambda: copies_step(archive, chores.copies, memory, meter))
            if chores.copies
            else None,
            "audit": (lambda: audit_step(archive, audit, memory, meter)) if audit else None,
            "sign": (lambda: sign_step(archive, Path(key), changed=changed)) if key else None,
        }

    def _do(self, step: str, run: Callable[[], StepResult] | None) -> None:
        """Run a step unless the night was ended; whatever comes of it is a result."""
        if run is None:
            return
        if self._deadline.passed and not self._cut:
            self._cut = "window"
        if self._cut:
            self._results.append(StepResult(step, "cut"))
            return
        self._progress.began(step)
        started = time.monotonic()
        try:
            with self._deadline.interrupting():
                result = run()
        except KeyboardInterrupt:
            result = StepResult(step, "cut")
        except ArchiverError as error:
            result = failed_step(step, error)
        except OSError as error:
            result = failed_step(step, explain_system_error(error))
        if result.outcome == "cut":
            self._cut = "window" if self._deadline.passed else "stopped"
            stop_requested.clear()  # the step has ended; what is left must not take that for itself
        result = msgspec.structs.replace(result, seconds=int(time.monotonic() - started))
        self._results.append(result)
        self._progress.ended(result)

    def _state_facts(self, state: Status) -> list[Fact]:
        copies = self._request.plan.night.copies
        return list(facts_of(self._archive, state, self._request.plan.name, copies))

    def _journal(self, report: NightReport, place: str) -> NightReport:
        """Journal a summary, unless the night was idle and all that is so was told before."""
        told = report.news
        did = any(result.outcome in {"done", "cut"} for result in report.steps)
        if not did and not told.new and not told.mended:
            return report
        event = NightRun(
            plan=report.plan,
            place=place,
            exit_code=report.exit_code,
            steps=tuple((result.step, result.outcome) for result in report.steps),
            facts=told.standing[:FACTS_MAX],
            seconds=report.seconds,
            cut=report.cut,
        )
        try:
            return msgspec.structs.replace(report, event=self._archive.record(new_event(event)))
        except ArchiverError as error:
            result = failed_step("journal", error)
            code = report.exit_code or result.exit_code
            steps = (*report.steps, result)
            return msgspec.structs.replace(report, exit_code=code, steps=steps)


_JUDGED: Final = frozenset({"done", "idle", "failed", "away"})
"""The outcomes of steps that came to a result: what they no longer tell is mended."""
