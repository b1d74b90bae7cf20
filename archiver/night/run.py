"""A night: everything that an archive needs from a plan, in one go, under one lock, and what it came to.

No step keeps another from being run: what fails is told, and the rest is still done. At the end the archive
is looked at as a whole; what that shows and no earlier night told is news, and decides the exit code.
"""

from __future__ import annotations

import shlex
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import msgspec

from archiver.archive.archive import KnownDocuments
from archiver.archive.events import NightRun, new_event
from archiver.archive.places import own_place, settled_place
from archiver.errors import ArchiverError, ExitCode, explain_system_error, skip_damaged
from archiver.memory import MemoryBudget
from archiver.night.commands import commands_step
from archiver.night.deadline import Deadline
from archiver.night.delivery import notify, ping
from archiver.night.facts import (
    DAMAGE,
    FACTS_MAX,
    STATE,
    News,
    acknowledged_of,
    facts_of,
    last_night,
    news,
)
from archiver.night.metrics import write_metrics
from archiver.night.models import smoke_step
from archiver.night.report import Cut, NightReport
from archiver.night.result import StepError, StepResult, failed_step
from archiver.night.steps import audit_step, copies_step, parity_step, place_audit_step, sign_step
from archiver.night.upstream import Sightings, SyncStep, watch_step
from archiver.night.words import lines, next_command, verdict
from archiver.operations.status.run import status
from archiver.plan.budget import RunBudget
from archiver.progress import Progress, stop_requested
from archiver.storage.locks import RunLock
from archiver.storage.store import local_folder
from archiver.text import printable, wall_clock

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from archiver.archive.archive import Archive
    from archiver.night.delivery import Tone
    from archiver.night.plan_mirror import PlanMirror
    from archiver.night.progress import NightProgress
    from archiver.operations.status.report import Status
    from archiver.plan.document import Plan, SecretName
    from archiver.upstream.protocol import WatchedUpstream


class NightRequest(NamedTuple):
    """Which plan, and how.

    Attributes:
        plan: What to mirror.
        source: The plan's file, or its name.
        mirror: What mirrors its entries; it is opened by the night.
        connect: Gives a hub by its name, which is looked at before anything is mirrored; None: none is.
        min_free: How many bytes must stay free.
        memory: What it may take.
    """

    plan: Plan
    source: str
    mirror: PlanMirror
    connect: Callable[[str], WatchedUpstream] | None = None
    min_free: int = 0
    memory: MemoryBudget = MemoryBudget()


def night(archive: Archive, request: NightRequest, progress: NightProgress) -> NightReport:
    """Run a night of a plan; outside of its window nothing is done.

    Raises:
        LockedError: Another process runs a night of this plan.
        UnknownFormatError: The archive needs a newer writer.
        DeniedError: Nothing may be written to it.
    """
    archive.require_writable()
    archive.store.require_writable()
    name, window, end = request.plan.name, request.plan.window, None
    if window is not None:
        now = wall_clock()
        end = window.ends_at(now)
        if end is None:
            opens = window.local(window.opens_at(now))
            none = News((), (), ())
            return NightReport(
                name, 0, "outside", (), none, 0, opens=opens, timezone=window.timezone
            )
    lock = local_folder(archive.store).scratch(f"night-{name}.lock")
    with RunLock(lock, f"The night of the plan {name}"):
        return _Night(archive, request, progress, end).run()


class _Night:
    """One night."""

    def __init__(
        self,
        archive: Archive,
        request: NightRequest,
        progress: NightProgress,
        end: datetime | None,
    ) -> None:
        self._archive = archive
        self._request = request
        self._plan = request.plan
        self._folder = Path(request.plan.file).parent
        self._progress = progress
        self._started = time.monotonic()
        self._results: list[StepResult] = []
        self._budget = RunBudget(request.plan.budget, end)
        self._deadline = Deadline((end - wall_clock()).total_seconds() if end else None)
        self._cut: Cut = ""
        self._seen = Sightings()

    def run(self) -> NightReport:
        chores = self._plan.night
        self._deliver("ping", lambda: ping(chores.ping, self._folder, "start", ""), chores.ping)
        with self._deadline:
            for step, call in self._steps().items():
                self._do(step, call)
        # What is left takes little time, and is done whatever ended the night.
        place = settled_place(self._archive)
        before = last_night(self._archive, self._plan.name, place)
        state = self._state()
        report = self._judged(before, state)
        if chores.prometheus and state is not None:
            self._finish("prometheus", lambda: self._metrics(state, report))
        if chores.report:
            self._finish("report", self._report)
        if chores.after:
            self._finish("after", lambda: self._commands("after", report))
        report = self._judged(before, state)
        mended = any(fact.exit_code for fact in report.news.mended)
        if report.news.ringing or mended:
            self._deliver("notify", lambda: self._notify(report), chores.notify)
        report = self._journal(self._judged(before, state), place.key)
        self._archive.journal.write_summary()
        self._deliver("ping", lambda: self._ping_end(report), chores.ping)
        return msgspec.structs.replace(report, steps=tuple(self._results))

    # ---- the steps

    def _steps(self) -> dict[str, Callable[[], StepResult]]:
        """Return what is to be done, in its order."""
        archive, request, chores = self._archive, self._request, self._plan.night
        memory, meter, audit = request.memory, self._progress.meter, chores.audit
        copies = {folder: KnownDocuments() for folder in chores.copies}
        steps: dict[str, Callable[[], StepResult]] = {}
        if chores.before:
            steps["before"] = lambda: self._commands("before", None)
        if request.connect is not None:
            steps["watch"] = partial(self._watch, request.connect)
        steps["sync"] = self._sync
        if chores.parity:
            steps["parity"] = lambda: parity_step(archive, memory, meter)
        if chores.copies:
            steps["copies"] = lambda: copies_step(archive, copies, memory, meter)
        if audit is not None:
            steps["audit"] = lambda: audit_step(archive, audit, memory, meter)
            for folder, known in copies.items():
                step = f"audit of {folder}"
                steps[step] = partial(
                    place_audit_step, archive, folder, known, audit, memory, meter, step
                )
        if any(entry.smoke not in {"", "none"} for entry in self._plan.repositories):
            steps["smoke"] = lambda: smoke_step(archive, self._plan, meter)
        if chores.sign:
            key = self._folder / Path(chores.sign).expanduser()
            steps["sign"] = lambda: sign_step(archive, key, changed=self._changed())
        return steps

    def _do(self, step: str, call: Callable[[], StepResult]) -> None:
        """Run a step unless the night was ended; whatever comes of it is a result."""
        if self._deadline.passed and not self._cut:
            self._cut = "window"
        if self._cut:
            self._results.append(StepResult(step, "cut"))
            return
        self._progress.began(step)
        started = time.monotonic()
        try:
            with self._deadline.interrupting():
                result = call()
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
        self._add(result)

    def _add(self, result: StepResult) -> None:
        self._results.append(result)
        self._progress.ended(result)

    def _changed(self) -> bool:
        return any(result.outcome == "done" for result in self._results)

    def _watch(self, connect: Callable[[str], WatchedUpstream]) -> StepResult:
        result, self._seen = watch_step(self._archive, self._plan, connect)
        return result

    def _sync(self) -> StepResult:
        request = self._request
        step = SyncStep(
            request.plan,
            request.source,
            request.mirror,
            request.min_free,
            self._progress,
            self._seen,
            self._budget,
        )
        return step.run(self._archive)

    def _commands(self, step: Literal["before", "after"], report: NightReport | None) -> StepResult:
        environment = {"ARCHIVER_ARCHIVE": str(local_folder(self._archive.store).path)}
        if report is not None:
            environment["ARCHIVER_VERDICT"] = verdict(report)
            environment["ARCHIVER_EXITCODE"] = str(report.exit_code)
        commands = self._plan.night.before if step == "before" else self._plan.night.after
        return commands_step(step, self._plan, commands, environment)

    # ---- the end

    def _finish(self, step: str, call: Callable[[], StepResult]) -> None:
        """Run what is done at the end of every night."""
        self._progress.began(step)
        try:
            result = call()
        except ArchiverError as error:
            result = failed_step(step, error)
        except OSError as error:
            result = failed_step(step, explain_system_error(error))
        self._add(result)

    def _deliver(
        self, step: str, call: Callable[[], tuple[StepError, ...]], secrets: tuple[SecretName, ...]
    ) -> None:
        """Tell somebody; what cannot be told is a line, and no failure."""
        errors = call() if secrets else ()
        if errors:
            self._add(StepResult(step, "failed", errors=errors))

    def _state(self) -> Status | None:
        """Return how the archive stands, as a whole; None, with a result, if that cannot be seen."""
        try:
            return status(self._archive)
        except ArchiverError as error:
            self._add(failed_step(STATE, error))
        return None

    def _judged(self, before: NightRun | None, state: Status | None) -> NightReport:
        """Return the report by what is known so far."""
        facts = [fact for result in self._results for fact in result.facts]
        judged = {result.step for result in self._results if result.outcome in _JUDGED}
        # Who was not asked for any more, such as a copy that is no longer wanted, has nothing to tell.
        known = {fact.step for fact in before.facts} if before else set()
        judged |= known - {result.step for result in self._results}
        if state is not None:
            copies = self._plan.night.copies
            facts += facts_of(state, self._plan.name, copies, self._sealed(), self._seen.unseen)
            judged.add(STATE)
        known_to_owner = acknowledged_of(state, self._plan.name) if state is not None else ()
        what = news(facts, before, judged, known_to_owner)
        code = what.exit_code
        if self._cut == "stopped" and not code:
            code = int(ExitCode.INTERRUPTED)
        return NightReport(
            plan=self._plan.name,
            exit_code=code,
            cut=self._cut,
            steps=tuple(self._results),
            news=what,
            seconds=int(time.monotonic() - self._started),
        )

    def _sealed(self) -> dict[str, str]:
        """Return since when each pack is needed."""
        sealed: dict[str, str] = {}
        for snapshot in self._archive.snapshots(skip_damaged):
            for pack, _ in snapshot.seal.packs:
                sealed[pack] = min(snapshot.seal.sealed, sealed.get(pack, snapshot.seal.sealed))
        return sealed

    def _metrics(self, state: Status, report: NightReport) -> StepResult:
        path = self._folder / Path(self._plan.night.prometheus).expanduser()
        address = self._archive.store.address
        write_metrics(path, self._plan.name, address, state, report.news, cut=bool(report.cut))
        return StepResult("prometheus", "idle")

    def _report(self) -> StepResult:
        # Its totals come from the catalogue: most nights need neither that nor SQL.
        from archiver.report.facts import collect  # noqa: PLC0415
        from archiver.report.page import page, store  # noqa: PLC0415

        facts = collect(self._archive, Progress())
        store(self._archive, facts, page(facts))
        return StepResult("report", "idle")

    def _notify(self, report: NightReport) -> tuple[StepError, ...]:
        first, *rest = self._message(report)
        ringing = report.news.ringing
        tone: Tone = "success"
        if ringing:
            tone = "failure" if ringing[0].exit_code in DAMAGE else "warning"
        body = "\n".join(rest) or first
        return notify(self._plan.night.notify, self._folder, first, body, tone)

    def _ping_end(self, report: NightReport) -> tuple[StepError, ...]:
        body = "\n".join(self._message(report))
        return ping(self._plan.night.ping, self._folder, str(report.exit_code), body)

    def _message(self, report: NightReport) -> list[str]:
        """Return the lines, and what to do next: who reads them elsewhere has to know at which machine."""
        ringing = report.news.ringing
        if not ringing:
            return lines(report)
        store = self._archive.store
        folder = str(Path(store.folder.path).absolute()) if store.folder else store.address
        command = shlex.join(next_command(ringing[0], folder))
        return [*lines(report), f"next, at {printable(own_place(self._archive).name)}: {command}"]

    def _journal(self, report: NightReport, place: str) -> NightReport:
        """Journal a summary, unless the night was idle and all that is so was told before."""
        did = any(result.outcome in {"done", "cut"} for result in report.steps)
        if not did and not report.news.new and not report.news.mended:
            return report
        event = NightRun(
            plan=report.plan,
            place=place,
            exit_code=report.exit_code,
            steps=tuple((result.step, result.outcome) for result in report.steps),
            facts=report.news.standing[:FACTS_MAX],
            seconds=report.seconds,
            cut=report.cut,
        )
        try:
            return msgspec.structs.replace(report, event=self._archive.record(new_event(event)))
        except ArchiverError as error:
            result = failed_step("journal", error)
            self._add(result)
            code = report.exit_code or result.exit_code
            return msgspec.structs.replace(report, exit_code=code, steps=tuple(self._results))


_JUDGED: Final = frozenset({"done", "idle", "failed", "away"})
"""The outcomes of steps that came to a result: what they no longer tell is mended."""
