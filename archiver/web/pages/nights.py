"""Plans and their nights, as the page shows them: what the last ones did, took and told, and what is due.

A night in which nothing was done and nothing is new is not journalled, and so is not here.
"""

from __future__ import annotations

from collections import Counter, deque
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from archiver.archive.events import NightFact, NightRun, Outcome, Stopped, Synced
from archiver.report.facts import WEEKS
from archiver.text import human_bytes, plural, seconds_of, utc_text
from archiver.web.pages.calendar import Look, draw

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from archiver.archive.events import Event
    from archiver.archive.places import Place
    from archiver.operations.status.report import Status
    from archiver.report.facts import RunDay
    from archiver.web.pages.calendar import Calendar

RUNS_MAX: Final = 400
"""Runs and nights that are kept, the newest,"""
ROWS_MAX: Final = 60
"""and rows that they are shown in; the calendar has all of a year."""
FACTS_MAX: Final = 40
"""Facts of one night that are listed."""
_SLACK: Final = 120
"""Seconds: a night's summary is written so much later than its last step, at most."""


class Run(msgspec.Struct, frozen=True):
    """A run of a plan that ended: a whole night with its ``steps``, or a sync by itself, which has none.

    Sizes are in bytes, -1 where they are not known; ``fetched`` and ``stored`` of a night are those of the
    syncs in it. ``stopped`` says which budget was used up, ``cut`` why a night ended early. ``new`` are the
    facts that no night before told, ``mended`` those that are so no more, ``known`` counts the others.
    ``standing`` are the first of all facts that stood at its end.
    """

    time: str
    plan: str
    exit_code: int
    seconds: int
    steps: tuple[tuple[str, str], ...] = ()
    outcomes: dict[Outcome, int] = {}
    fetched: int = -1
    stored: int = -1
    free: int = -1
    stopped: Stopped | Literal[""] = ""
    cut: str = ""
    new: tuple[NightFact, ...] = ()
    mended: tuple[NightFact, ...] = ()
    known: int = 0
    standing: tuple[NightFact, ...] = ()
    more: int = 0
    """How many facts are new or mended and not listed."""

    @property
    def is_night(self) -> bool:
        """Whether it was a whole night."""
        return bool(self.steps)

    @property
    def is_quiet(self) -> bool:
        """Whether it went well, brought nothing, and told nothing."""
        told = self.new or self.mended or self.cut or self.stopped or self.exit_code
        return not told and self.stored <= 0


class Quiet(msgspec.Struct, frozen=True):
    """So many quiet runs of a plan one after the other, from the day ``first`` to the day ``last``."""

    plan: str
    first: str
    last: str
    count: int
    nights: int


DueKind = Literal["proofs", "copy", "smoke", "entries", "acknowledgement"]
"""``proofs``: packs are to be proven again; ``copy``: a copy counts no longer than that; ``smoke``: models
were never run; ``entries``: a plan's run is to bring them; ``acknowledgement``: it holds until then."""


class Due(msgspec.Struct, frozen=True):
    """Something that is to be done by ``day`` (YYYY-MM-DD; ``""``: now), about ``count`` things."""

    what: DueKind
    day: str
    count: int
    subject: str = ""
    late: bool = False
    """Whether the day is past."""


def runs(events: Iterable[tuple[str, Event]], here: Place) -> tuple[Run, ...]:
    """Return the runs and nights of the plans that feed this place, the newest first."""
    # What no row shows is only looked at for what the night before told.
    newest: deque[tuple[str, NightRun | Synced]] = deque(maxlen=2 * RUNS_MAX)
    for _, event in events:
        match event.detail:
            case NightRun() | Synced() as detail if here.is_named(detail.place):
                newest.append((event.time, detail))
    ended: list[Run] = []
    synced: list[tuple[str, Synced]] = []
    before: dict[str, NightRun] = {}
    for time, detail in newest:
        if isinstance(detail, Synced):
            synced.append((time, detail))
            continue
        begin = utc_text((seconds_of(time) or 0) - detail.seconds - _SLACK)
        own = [pair for pair in synced if pair[1].plan == detail.plan and pair[0] >= begin]
        ended += [_sync(*pair) for pair in synced if pair not in own]
        synced.clear()
        ended.append(_night(time, detail, [each for _, each in own], before))
        before[detail.plan] = detail
    ended += [_sync(*pair) for pair in synced]
    return tuple(sorted(ended, key=lambda run: run.time, reverse=True)[:RUNS_MAX])


def folded(listed: Iterable[Run]) -> list[Run | Quiet]:
    """Return the runs, newest first, several quiet ones in a row as one; at most ``ROWS_MAX``."""
    rows: list[Run | Quiet] = []
    for (quiet, plan), group in groupby(listed, key=lambda run: (run.is_quiet, run.plan)):
        own = list(group)
        if quiet and len(own) > 1:
            first, last = own[-1].time[:10], own[0].time[:10]
            rows.append(Quiet(plan, first, last, len(own), sum(run.is_night for run in own)))
        else:
            rows += own
    return rows[:ROWS_MAX]


def _sync(time: str, synced: Synced) -> Run:
    return Run(
        time=time,
        plan=synced.plan,
        exit_code=synced.exit_code,
        seconds=synced.seconds,
        outcomes=dict(Counter(synced.outcomes)),
        fetched=synced.fetched,
        stored=synced.stored,
        free=synced.free,
        stopped=_stopped(synced),
    )


def _stopped(synced: Synced) -> Stopped | Literal[""]:
    return "" if isinstance(synced.stopped, msgspec.UnsetType) else synced.stopped


def _night(
    time: str, night: NightRun, synced: Sequence[Synced], before: dict[str, NightRun]
) -> Run:
    new, mended = _news(night, before.get(night.plan))
    outcomes = Counter(outcome for each in synced for outcome in each.outcomes)
    return Run(
        time=time,
        plan=night.plan,
        exit_code=night.exit_code,
        seconds=night.seconds,
        steps=night.steps,
        outcomes=dict(outcomes),
        fetched=sum(each.fetched for each in synced) if synced else -1,
        stored=sum(each.stored for each in synced) if synced else -1,
        free=synced[-1].free if synced else -1,
        stopped=next((word for each in synced if (word := _stopped(each))), ""),
        cut=night.cut,
        new=tuple(new[:FACTS_MAX]),
        mended=tuple(mended[:FACTS_MAX]),
        known=len(night.facts) - len(new),
        standing=night.facts[:FACTS_MAX],
        more=max(len(new) - FACTS_MAX, 0) + max(len(mended) - FACTS_MAX, 0),
    )


def _news(night: NightRun, before: NightRun | None) -> tuple[list[NightFact], list[NightFact]]:
    """Return what a night told that the one before did not, and what was mended since that one."""
    told = {(fact.fact, fact.subject): fact for fact in (before.facts if before else ())}
    now = {(fact.fact, fact.subject) for fact in night.facts}
    # What was told softly, and rings by now, is news, as the night itself has it.
    new = [
        fact
        for fact in night.facts
        if (known := told.get((fact.fact, fact.subject))) is None
        or (fact.exit_code and not known.exit_code)
    ]
    mended = [fact for key, fact in told.items() if key not in now and fact.fact != "changed"]
    return new, mended


def calendar(days: Iterable[RunDay], now: str) -> Calendar:
    """Return the drawing of a year of runs and nights."""
    listed = list(days)
    looks = {
        day.day: Look(1 if day.exit_code else 3, "damaged" if day.exit_code else "", _day_text(day))
        for day in listed
    }
    bad = sum(bool(day.exit_code) for day in listed)
    ended = f"{bad:,} of them with one that rang or failed" if bad else "all of them well"
    text = f"Runs on {plural(len(listed), 'day')} of the last {WEEKS} weeks, {ended}."
    return draw(looks, now, text if listed else f"No run in the last {WEEKS} weeks.")


def _day_text(day: RunDay) -> str:
    end = f"exit {day.exit_code}" if day.exit_code else "all well"
    nights = f", {plural(day.nights, 'night')}" if day.nights else ""
    return (
        f"{day.day}: {plural(day.runs, 'run')}{nights}, {end}; {human_bytes(day.fetched)} fetched"
    )


# ---- what is due


def due(status: Status, acknowledged: Iterable[tuple[str, str]], now: str) -> tuple[Due, ...]:
    """Return what is to be done, what is late first and then by day.

    ``acknowledged`` are titles, each with the day until which its owner knows of it.
    """
    entries = sorted(_due(status, acknowledged, now[:10]), key=lambda each: (each.day, each.what))
    return tuple(entries)


def _due(status: Status, acknowledged: Iterable[tuple[str, str]], today: str) -> Iterator[Due]:
    yield from _proofs(status, today)
    never = sum(not test.tried for test in status.smoke_tests)
    if 0 < never < len(status.smoke_tests):  # where none was ever run nobody asked for it
        yield Due("smoke", "", never)
    for plan in status.plans:
        if waiting := sum(not entry.met for entry in plan.entries):
            yield Due("entries", "", waiting, plan.plan, late=True)
    for title, until in acknowledged:
        if until:
            yield Due("acknowledgement", until[:10], 1, title, late=until[:10] < today)


def _proofs(status: Status, today: str) -> Iterator[Due]:
    policy = status.policy
    if policy.audit_days:
        level = next(each for each in status.coverage if each.level == policy.audit_level)
        if level.never:
            yield Due("proofs", "", level.never, policy.audit_level, late=True)
        if level.oldest:
            day = days_after(level.oldest, policy.audit_days)
            yield Due("proofs", day, level.packs, policy.audit_level, late=day < today)
    for place in status.places:
        if place.standing in {"counts", "proof-old"} and place.proven:
            day = days_after(place.proven, status.copy_days)
            yield Due("copy", day, place.snapshots, place.place, late=day < today)


def days_after(time: str, days: int) -> str:
    """Return the day (YYYY-MM-DD) that is so many days after a time; ``""`` of what is no time."""
    seconds = seconds_of(time)
    if seconds is None:
        return ""
    try:
        return f"{datetime.fromtimestamp(seconds, UTC) + timedelta(days=days):%Y-%m-%d}"
    except OverflowError:
        return ""
