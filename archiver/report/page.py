"""The page of a report: one file of HTML that needs nothing else, for people, now and in thirty years.

It runs no script and asks for nothing: its content security policy allows its own style sheet only, by
digest. Text is foreign until it went through ``printable``, and the template escapes all of it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shlex
from datetime import UTC, datetime, timedelta
from importlib import resources
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from archiver.errors import SkippedError
from archiver.report.changes import change_sentence
from archiver.report.facts import WEEKS, ChangeKind, Facts, PlaceProofs, RunDay, monday
from archiver.report.words import by_receipt, medium, reason, sentence, verdict
from archiver.smoke.libraries import install_hint
from archiver.text import human_bytes, human_share, plural, printable, seconds_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jinja2 import Environment

    from archiver.archive.archive import Archive

PAGE: Final = "report.html"
RECORD: Final = "report.json"
"""Both lie in the root of the archive, which no reader takes for a part of it."""
_DAY: Final = 86400
_SHORT: Final = 12
_SHADES: Final = (0.02, 0.08, 0.2, 0.5)
"""Shares of a place's bytes at which a cell of its calendar gets darker."""
_CELL, _PITCH = 10, 12
"""A day in the calendar of runs: its side, and the way to the next, in units of the drawing."""
_WIDTH, _HEIGHT = 720, 160
"""The drawing of the room, in its own units."""
_COMMAND_MAX: Final = 2000
_LABELS: Final[tuple[tuple[ChangeKind, str], ...]] = (
    ("new", "New repositories"),
    ("revision", "New revisions of held ones"),
    ("upstream", "Changes upstream"),
    ("gone", "Gone upstream"),
    ("damaged", "Times that damage was found"),
    ("repairs", "Repairs"),
    ("smoke-failed", "Smoke tests that failed"),
)
"""The changes that are counted on the page; the record counts all."""
_CHANGES: Final[dict[ChangeKind, str]] = {
    "new": "new repository",
    "revision": "new revision",
    "gone": "gone upstream",
    "back": "back upstream",
    "upstream": "changed upstream",
    "unseen": "not shown by upstream",
    "damaged": "damage was found",
    "repairs": "files repaired",
    "forgotten": "snapshots forgotten",
    "copy-lost": "copies given up",
    "smoke-failed": "smoke test failed",
}


def page(facts: Facts) -> str:
    """Return the page; raise SkippedError if the library that makes pages is not installed."""
    style = _read("report.css")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    template = _environment().get_template("report.html.jinja")
    held = facts.held
    said = verdict(
        short=facts.verdict.short,
        unread=bool(facts.verdict.findings),
        snapshots=held.snapshots,
        packs=held.packs,
        size=held.bytes,
        missing=held.missing,
    )
    return template.render(
        facts=facts,
        style=style,
        policy=f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'",
        said=said,
        strips=[strip(place, facts.time) for place in facts.places],
        months=months(facts.time),
        runs=calendar(facts.runs.days, facts.time),
        growth=growth(facts),
        limit=_limit(facts),
        labels=_LABELS,
        change_words=_CHANGES,
    )


def store(archive: Archive, facts: Facts, page_text: str) -> None:
    """Put the page and its record into the archive, in the place of those before.

    Each is whole under its name at any moment. Raise ArchiverError if nothing can be written.
    """
    archive.require_writable()
    archive.store.require_writable()
    record = json.dumps(msgspec.to_builtins(facts), indent=1) + "\n"
    for name, data in ((RECORD, record), (PAGE, page_text)):
        staged = archive.store.stage("report")
        try:
            staged.write(data.encode())
            staged.publish(name)
        finally:
            staged.abort()


# ---- the template and what it may call


def _read(name: str) -> str:
    return (resources.files("archiver.report") / name).read_text(encoding="utf-8")


def _environment() -> Environment:
    try:
        from jinja2 import Environment, FunctionLoader, StrictUndefined  # noqa: PLC0415 - of the extra
    except ImportError:
        raise SkippedError("Not installed: jinja2.", hint=install_hint("pages")) from None
    environment = Environment(
        autoescape=True,
        loader=FunctionLoader(_read),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    filters: dict[str, Any] = {
        "text": printable,
        "size": human_bytes,
        "count": "{:,}".format,
        "day": _day,
        "moment": _moment,
        "ago": _ago,
        "short": lambda digest: printable(digest[:_SHORT]),
        "command": lambda argv: printable(shlex.join(argv), _COMMAND_MAX),
        "changed": change_sentence,
        "sentence": lambda shortfall: printable(sentence(shortfall), _COMMAND_MAX),
    }
    functions: dict[str, Any] = {
        "share": human_share,
        "plural": plural,
        "medium": medium,
        "by_receipt": by_receipt,
        "reason": reason,
        "weeks": WEEKS,
    }
    environment.filters.update(filters)
    environment.globals.update(functions)
    return environment


def _day(time: str) -> str:
    return printable(time[:10])


def _moment(time: str) -> str:
    return printable(time[:16].replace("T", " ") + " UTC") if seconds_of(time) else printable(time)


def _days_between(time: str, now: str) -> int | None:
    begin, end = seconds_of(time), seconds_of(now)
    return None if begin is None or end is None else max(end - begin, 0) // _DAY


def _ago(time: str, now: str) -> str:
    """Return how long ago a time was, in days."""
    days = _days_between(time, now)
    if days is None:
        return "at no time" if time else "never"
    return plural(days, "day") + " ago" if days else "today"


# ---- charts: numbers that the template draws


class Cell(NamedTuple):
    """A rectangle of a drawing: where, how dark (0 to 5), and what it says."""

    x: float
    y: float
    shade: int
    text: str


class Strip(NamedTuple):
    """A place's calendar: a cell a week, the newest last; ``limit`` is where copies begin to count."""

    place: PlaceProofs
    cells: list[Cell]
    text: str


def strip(place: PlaceProofs, now: str) -> Strip:
    """Return the calendar of one place."""
    first = datetime.fromisoformat(monday(now, weeks=WEEKS - 1))
    cells = []
    for week in place.weeks:
        begin = datetime.fromisoformat(week.day)
        at = (begin - first).days // 7
        if not 0 <= at < WEEKS:
            continue
        part = week.bytes / place.bytes if place.bytes else 0.0
        shade = 1 + sum(part > bound for bound in _SHADES)
        words = f"{plural(week.packs, 'pack')}, {human_bytes(week.bytes)}"
        text = f"{begin:%Y-%m-%d} to {begin + timedelta(days=6):%Y-%m-%d}: {words}"
        cells.append(Cell(at, 0, shade, text))
    counted = [f"{plural(age.packs, 'pack')} within {age.days} days" for age in place.ages]
    counted += [f"{place.older.packs:,} longer ago", f"{place.never.packs:,} never"]
    return Strip(place, cells, "Last proven: " + ", ".join(counted))


class Month(NamedTuple):
    """A month's name, and in which of the weeks it begins."""

    name: str
    week: int


def months(now: str) -> list[Month]:
    """Return the months of the calendar that begin in one of its weeks."""
    first = datetime.fromisoformat(monday(now, weeks=WEEKS - 1))
    begun = []
    for week in range(WEEKS - 1):  # a name needs more room than the last one has
        days = (first + timedelta(days=7 * week + day) for day in range(7))
        begun += [Month(f"{day:%b}", week) for day in days if day.day == 1]
    return begun


def _limit(facts: Facts) -> float:
    """Return where in the calendar, in weeks, the oldest proof lies that still counts; 0: before all."""
    end = (seconds_of(facts.time) or 0) / _DAY - facts.copy_days
    begin = datetime.fromisoformat(monday(facts.time, weeks=WEEKS - 1)).replace(tzinfo=UTC)
    return round(max(end - begin.timestamp() / _DAY, 0) / 7, 2)


class Calendar(NamedTuple):
    """The runs of a year: a cell for each day that had one; shade 1 is a good day, 5 a bad one."""

    width: int
    height: int
    cells: list[Cell]
    blank: list[Cell]
    text: str


def calendar(days: Sequence[RunDay], now: str) -> Calendar:
    """Return the calendar of runs, a column a week."""
    first = datetime.fromisoformat(monday(now, weeks=WEEKS - 1)).replace(tzinfo=UTC)
    last = datetime.fromtimestamp(seconds_of(now) or 0, UTC)
    known = {day.day: day for day in days}
    cells: list[Cell] = []
    blank: list[Cell] = []
    for number in range((last - first).days + 1):
        week, weekday = divmod(number, 7)
        name = f"{first + timedelta(days=number):%Y-%m-%d}"
        day = known.get(name)
        text = ""
        if day:
            end = f"exit {day.exit_code}" if day.exit_code else "all well"
            text = f"{name}: {plural(day.runs, 'run')}, {end}, {human_bytes(day.fetched)} fetched"
            text += f"; {plural(day.nights, 'night')} told of news" if day.nights else ""
        shade = 0 if day is None else 5 if day.exit_code else 1
        (cells if day else blank).append(Cell(week * _PITCH, weekday * _PITCH, shade, text))
    bad = sum(bool(day.exit_code) for day in days)
    text = f"{plural(len(days), 'day')} with runs in a year, {bad:,} of them with a run that failed"
    size = WEEKS * _PITCH - (_PITCH - _CELL), 7 * _PITCH - (_PITCH - _CELL)
    return Calendar(*size, cells, blank, text)


class Growth(NamedTuple):
    """Bytes held over time: an area and its upper edge as paths, and where the axis begins and ends."""

    area: str
    edge: str
    begin: str
    most: int
    text: str


def growth(facts: Facts) -> Growth | None:
    """Return the drawing of the room that was used over time; None of less than two days."""
    points = facts.room.points
    if len(points) < 2:  # noqa: PLR2004 - two points make a line
        return None
    times = [seconds_of(f"{point.day}T00:00:00Z") or 0 for point in points]
    end = max(seconds_of(facts.time) or 0, times[-1] + 1)
    most = max(1, *(point.bytes for point in points))
    span = max(end - times[0], 1)

    def x(time: int) -> float:
        return round((time - times[0]) / span * _WIDTH, 1)

    def y(size: int) -> float:
        return round(_HEIGHT - size / most * (_HEIGHT - 4), 1)

    # It stays as it is until the day on which more came.
    path = [f"M0 {y(points[0].bytes)}"]
    path += [f"H{x(at)}V{y(point.bytes)}" for at, point in zip(times[1:], points[1:], strict=True)]
    edge = "".join(path) + f"H{_WIDTH}"
    text = (
        f"From {human_bytes(points[0].bytes)} on {points[0].day} to "
        f"{human_bytes(points[-1].bytes)} on {points[-1].day}"
    )
    return Growth(f"{edge}V{_HEIGHT}H0Z", edge, points[0].day, most, text)
