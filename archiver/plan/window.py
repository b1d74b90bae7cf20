"""Windows: the times of day in which a plan may run, by the clock of a time zone.

A window begins when the clock first shows its beginning, or would have: on the day on which the clock goes
forward, at the leap. It ends likewise. So a clock that goes back makes a window longer, never two of
it, and what is reckoned with is always the time that really passes.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date, tzinfo

DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
"""As a window names them; any case will do."""
SPANS_MAX: Final = 50
"""Spans of one window."""

_HOUR: Final = 60
_DAY: Final = 24 * _HOUR
_SPAN: Final = re.compile(
    r"(?:(?P<days>[A-Za-z]{3}(?:[-,][A-Za-z]{3}){0,7})\s+)?"
    r"(?P<start>[0-9]{2}:[0-9]{2})\s*-\s*(?P<end>[0-9]{2}:[0-9]{2})\Z"
)
_ZONE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(?:/[A-Za-z0-9_+-]+){0,3}\Z")
_ZONE_MAX: Final = 64
_NO_ZONES: Final = frozenset({"localtime", "posix", "right", "Factory", "posixrules"})
"""Names that a zone database may have, and that mean something else on every machine."""
_AHEAD: Final = 9
"""So many days ahead a window is looked for: one of each week is among them."""


class Span(msgspec.Struct, frozen=True):
    """From one time of day to another, in minutes since midnight.

    An ``end`` that is not after ``start`` is one of the next day. ``days`` are those on which it begins,
    0 for Monday.
    """

    start: int
    end: int
    days: tuple[int, ...] = tuple(range(7))

    @property
    def minutes(self) -> int:
        """How long it is by the clock."""
        return self.end - self.start + (0 if self.end > self.start else _DAY)


class Window(msgspec.Struct, frozen=True):
    """The spans of time in which a plan may run, by the clock of ``timezone``.

    Moments that are passed in must have a time zone; those that come back are UTC.
    """

    spans: tuple[Span, ...]
    timezone: str

    def is_open(self, now: datetime) -> bool:
        """Return whether ``now`` lies in it."""
        return self.ends_at(now) is not None

    def ends_at(self, now: datetime) -> datetime | None:
        """Return when the window ends that is open ``now``, which is later; None if none is open."""
        moment = _as_utc(now)
        return next((end for start, end in self._open_times(moment) if start <= moment < end), None)

    def opens_at(self, now: datetime) -> datetime:
        """Return ``now`` if the window is open, else when it opens next."""
        moment = _as_utc(now)
        for start, end in self._open_times(moment):
            if moment < end:
                return max(start, moment)
        raise ValueError(f"{self} never opens.")

    def local(self, moment: datetime) -> datetime:
        """Return what its clock shows at a moment."""
        return moment.astimezone(_zone(self.timezone))

    def _open_times(self, now: datetime) -> list[tuple[datetime, datetime]]:
        """Return the times around ``now`` in which it is open, in order; what meets is one."""
        zone = _zone(self.timezone)
        today = now.astimezone(zone).date()
        times = [
            (start, end)
            for ahead in range(-2, _AHEAD)
            for start, end in self._times_of(today + timedelta(days=ahead), zone)
            if start < end
        ]
        merged: list[tuple[datetime, datetime]] = []
        for start, end in sorted(times):
            if merged and start <= merged[-1][1]:
                merged[-1] = merged[-1][0], max(end, merged[-1][1])
            else:
                merged.append((start, end))
        return merged

    def _times_of(self, day: date, zone: tzinfo) -> Iterator[tuple[datetime, datetime]]:
        midnight = datetime(day.year, day.month, day.day)  # noqa: DTZ001 - what a clock shows
        for span in self.spans:
            if day.weekday() in span.days:
                start = midnight + timedelta(minutes=span.start)
                yield _moment(start, zone), _moment(start + timedelta(minutes=span.minutes), zone)


def parse_span(text: str) -> Span:
    """Return the span that ``text`` stands for; raise ValueError, a part of a sentence, if it is none.

    ``01:00-06:00``, ``22:00-06:00``, which ends on the next day, ``Sat,Sun 00:00-24:00``, or
    ``Mon-Fri 20:00-06:00``: the days are those on which it begins.
    """
    match = _SPAN.match(text.strip())
    if match is None:
        raise ValueError('not a window such as "01:00-06:00" or "Sat,Sun 00:00-24:00"')
    start, end = _minutes(match["start"]), _minutes(match["end"])
    if start == _DAY:
        raise ValueError("a window that begins at 24:00; that is 00:00 of the next day")
    if start == end:
        raise ValueError("a window without a length; a whole day is 00:00-24:00")
    return Span(start, end, _days(match["days"]) if match["days"] else Span(0, 1).days)


def _minutes(text: str) -> int:
    hours, minutes = map(int, text.split(":"))
    total = hours * _HOUR + minutes
    if minutes >= _HOUR or total > _DAY:
        raise ValueError(f"{text} is no time of a day, which has 00:00 to 24:00")
    return total


def _days(text: str) -> tuple[int, ...]:
    days: set[int] = set()
    for part in text.split(","):
        first, *last = (_day(name) for name in part.split("-"))
        if len(last) > 1:
            raise ValueError(f"{part} is not a range of days such as Mon-Fri")
        end = last[0] if last else first
        days |= {(first + ahead) % 7 for ahead in range((end - first) % 7 + 1)}
    return tuple(sorted(days))


def _day(name: str) -> int:
    known = name.capitalize()
    if known not in DAYS:
        raise ValueError(f"{name} is not a day; there are {', '.join(DAYS)}")
    return DAYS.index(known)


def zone_problem(name: str) -> str:
    """Return why ``name`` is no time zone, a part of a sentence; ``""`` if it is one."""
    if not _is_zone_name(name):
        return "not the name of a time zone such as Europe/Berlin"
    try:
        _zone(name)
    except (KeyError, ValueError, OSError):
        # KeyError: not known; else a folder of the database, or a file in it that is none of its zones.
        near = _nearest_zone(name)
        return f"not a time zone that is known here{near and f'; did you mean {near}?'}"
    return ""


def _is_zone_name(name: str) -> bool:
    return (
        len(name) <= _ZONE_MAX
        and bool(_ZONE.match(name))
        and not _NO_ZONES.intersection(name.split("/"))
    )


def _nearest_zone(name: str) -> str:
    import difflib  # noqa: PLC0415 - only where something is wrong
    from importlib import resources  # noqa: PLC0415 - likewise

    # The system's own database has no list of its names: all its files would have to be read.
    names = (resources.files("tzdata") / "zones").read_text(encoding="utf-8").split()
    folded = {zone.casefold(): zone for zone in sorted(names)}
    wanted = name.casefold().replace(" ", "_")
    cities = {zone.rpartition("/")[2]: zone for zone in reversed(folded)}
    if wanted in cities:
        return folded[cities[wanted]]
    close = difflib.get_close_matches(wanted, folded, 1)
    if close:
        return folded[close[0]]
    city = difflib.get_close_matches(wanted.rpartition("/")[2], cities, 1)
    return folded[cities[city[0]]] if city else ""


def _zone(name: str) -> tzinfo:
    from zoneinfo import ZoneInfo  # noqa: PLC0415 - most plans have no window

    return ZoneInfo(name)


def _as_utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError("A moment without a time zone is none.")
    return moment.astimezone(UTC)


def _moment(shown: datetime, zone: tzinfo) -> datetime:
    """Return the first moment at which the clock of ``zone`` shows a time, or one after it."""
    early = shown.replace(tzinfo=zone).astimezone(UTC)  # the first, where the clock shows it twice
    if early.astimezone(zone).replace(tzinfo=None) == shown:
        return early
    # The clock leaps over it: the leap lies between what the offsets before and after it make of it.
    low, high = shown.replace(tzinfo=zone, fold=1).astimezone(UTC), early
    while high - low > timedelta(seconds=1):
        middle = low + (high - low) // 2
        if middle.astimezone(zone).replace(tzinfo=None) < shown:
            low = middle
        else:
            high = middle
    return high.replace(microsecond=0)
