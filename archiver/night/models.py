"""The smoke tests that a plan wants: whose turn it is, and which models failed their last one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, cast

from archiver.archive.events import SmokeTested
from archiver.archive.places import own_place
from archiver.archive.plans import planned_entries
from archiver.errors import ArchiverError, DamageError, ExitCode
from archiver.night.facts import Fact, ringing_code, worst
from archiver.night.result import Outcome, StepError, StepResult
from archiver.operations.smoke_test import SmokeOptions, smoke_test_snapshot
from archiver.smoke.report import up_to
from archiver.text import utc_before, utc_now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from archiver.archive.archive import Archive
    from archiver.archive.seals import Snapshot
    from archiver.plan.document import Plan
    from archiver.progress import Progress
    from archiver.smoke.report import Level

HELD_DAYS: Final = 30
"""A model that held its test has the next one after so many days,"""
FAILED_DAYS: Final = 7
"""and one that did not after so many."""
_DAY: Final = 86400


class _Tested(NamedTuple):
    """The last test of a snapshot up to the level that is wanted: when, and its exit code."""

    time: str = ""
    code: int = 0

    @property
    def due(self) -> bool:
        """Whether there is to be another."""
        days = FAILED_DAYS if self.code else HELD_DAYS
        return self.time < utc_before(days * _DAY) or self.time > utc_now()


class _Wish(NamedTuple):
    """A model that may be the newest of an entry."""

    is_main: bool
    sealed: str
    snapshot: Snapshot
    level: Level


def smoke_step(
    archive: Archive, plan: Plan, meter: Callable[[str, str], AbstractContextManager[Progress]]
) -> StepResult:
    """Run the models whose turn it is; of the others the last test still tells."""
    wishes = list(_wishes(archive, plan))
    tested = _last_tests(archive, wishes)
    facts: list[Fact] = []
    errors: list[StepError] = []
    run = held = 0
    for snapshot, level in wishes:
        code = tested[snapshot.id].code
        if tested[snapshot.id].due:
            run += 1
            code, error = _test(archive, snapshot, level, meter)
            held += not code
            errors += [error] if error else []
        if code:
            facts.append(Fact("smoke", snapshot.title, code, "smoke"))
    outcome: Outcome = "done" if run else "idle"
    if errors:
        skipped = all(error.exit_code == ExitCode.SKIPPED for error in errors)
        outcome = "skipped" if skipped else "failed"
    code = worst(fact.exit_code for fact in facts)
    counts = {"models": len(wishes), "run": run, "held": held}
    return StepResult("smoke", outcome, code, tuple(facts), tuple(errors), counts)


def _test(
    archive: Archive,
    snapshot: Snapshot,
    level: Level,
    meter: Callable[[str, str], AbstractContextManager[Progress]],
) -> tuple[int, StepError | None]:
    """Run one model; return its exit code, and why it is no success."""
    try:
        with meter("Testing", "files") as progress:
            test = smoke_test_snapshot(archive, snapshot, SmokeOptions(level=level), progress)
    except DamageError as error:
        code = ringing_code(int(error.exit_code))
        return code, StepError(error.message, error.hint, code, snapshot.title)
    code = int(test.report.exit_code)
    if not code:
        return 0, None
    reasons = [entry.reason for entry in test.report.levels if entry.reason]
    reasons += [finding.message for finding in test.report.findings if not finding.remark]
    hint = next((entry.hint for entry in test.report.levels if entry.hint), "")
    return code, StepError(reasons[0] if reasons else "It failed.", hint, code, snapshot.title)


def _wishes(archive: Archive, plan: Plan) -> Iterator[tuple[Snapshot, Level]]:
    """Yield the newest model of each entry that the plan wants tested, with the last level.

    What a pattern, an author, a collection and a pattern of revisions stand for is what the journal has of
    them. Of the revisions that one entry stands for, the main branch's is the newest, else the last one
    that was sealed.
    """
    newest: dict[tuple[str, str], _Wish] = {}
    for entry in planned_entries(archive, plan):
        if entry.smoke in {"", "none"}:
            continue
        try:
            snapshot = archive.find(entry.repository, entry.revision or None)
        except ArchiverError:
            continue  # it never came, or a name that is no more: what is held of it is audited
        if not snapshot.should_run:
            continue
        written = entry.repository.casefold(), entry.of or entry.title
        wish = _Wish(entry.is_main, snapshot.seal.sealed, snapshot, cast("Level", entry.smoke))
        newest[written] = max(newest.get(written, wish), wish, key=lambda wish: wish[:2])
    for wish in sorted(newest.values(), key=lambda wish: wish.snapshot.title):
        yield wish.snapshot, wish.level


def _last_tests(archive: Archive, wishes: list[tuple[Snapshot, Level]]) -> dict[str, _Tested]:
    """Return the last test of each snapshot at this place that was to reach its level."""
    levels: dict[str, set[Level]]
    levels = {snapshot.id: set(up_to(level)) for snapshot, level in wishes}
    tests: dict[str, _Tested] = dict.fromkeys(levels, _Tested())
    if not wishes:
        return tests
    place = own_place(archive)
    for _, event in archive.standing_events():
        match event.detail:
            case SmokeTested() as test if (
                test.snapshot in levels
                and place.is_named(test.place)
                and test.levels.keys() >= levels[test.snapshot]
            ):
                verdicts = set(test.levels.values())
                code = 0 if verdicts <= {"held", "inapplicable"} else int(ExitCode.SKIPPED)
                code = int(ExitCode.SMOKE_FAILED) if "failed" in verdicts else code
                tests[test.snapshot] = _Tested(event.time, code)
    return tests
