"""The journal's time: what events tell of the clock, and whether a grace has really passed.

A clock may be wrong: a machine without a battery boots in 1970, another one in 2040. So an event counts
as of its **effective time**, the latest among itself and all before it, and a clock that leaps over the
end of a grace is believed a day after it was first seen there (``docs/format.md``, annex A.5).
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Final

from archiver.archive.events import (
    ClockSeen,
    Condemned,
    Forgotten,
    Pruned,
    Remembered,
    Spared,
)
from archiver.errors import ArchiverError
from archiver.text import seconds_of, utc_after, utc_now, utc_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from archiver.archive.events import Event

DAY: Final = 86400
AHEAD: Final = DAY
"""Seconds that the journal may be ahead of the clock: machines differ, and some take local time for UTC."""
_MEASURED: Final = frozenset({Condemned, Spared, Forgotten, Remembered, Pruned})
"""Events from which a grace is measured."""


def effective_times(events: Iterable[tuple[str, Event]]) -> dict[str, str]:
    """Return id -> effective time of events that are given each after those that it names.

    A ``clock`` event that somebody confirmed says what time it was: none before it counts as later.
    What only follows up the times that were set aside so, such as a new sighting after an old one, says
    nothing of the time either.
    """
    listed = list(events)
    bounds = _confirmed_bounds(listed)
    doubted = max((_doubted_time(event) for _, event in listed), default=0)
    times: dict[str, str] = {}
    for digest, event in listed:
        before = max((times[earlier] for earlier in event.after if earlier in times), default="")
        time = before if before and _follows_up(event, doubted) else max(event.time, before)
        times[digest] = min(time, bounds.get(digest, time))
    return times


def _doubted_time(event: Event) -> int:
    """Return the time, in seconds, that a confirmed clock set aside; 0 if the event is none."""
    match event.detail:
        case ClockSeen(since, confirmed=True):
            return seconds_of(since) or 0
        case _:
            return 0


def _follows_up(event: Event, doubted: int) -> bool:
    """Return whether the event's time is to come and only one that was set aside explains it."""
    if not doubted or event.type in _MEASURED or has_come(event.time):
        return False
    return (seconds_of(event.time) or doubted + DAY + 1) <= doubted + DAY


def proof_times(events: Iterable[tuple[str, Event]]) -> dict[str, str]:
    """Return id -> the time that a proof of this event may claim, given as for ``effective_times``.

    Its own, unless a confirmed clock says that this had not come: then that of the newest event before.
    """
    listed = list(events)
    bounds = _confirmed_bounds(listed)
    times: dict[str, str] = {}
    for digest, event in listed:
        if event.time <= bounds.get(digest, event.time):
            times[digest] = event.time
        else:
            times[digest] = max(
                (times[earlier] for earlier in event.after if earlier in times), default=""
            )
    return times


def _confirmed_bounds(events: Sequence[tuple[str, Event]]) -> dict[str, str]:
    """Return the time that it was at most, for each event before one that confirms a clock."""
    bounds: dict[str, str] = {}
    for digest, event in reversed(events):
        if is_confirmation(event):
            bounds[digest] = min(event.time, bounds.get(digest, event.time))
        if digest in bounds:
            for before in event.after:
                bounds[before] = min(bounds[digest], bounds.get(before, bounds[digest]))
    return bounds


def journal_time(events: Iterable[tuple[str, Event]]) -> str:
    """Return the latest effective time of the events; ``""`` if there are none."""
    return max(effective_times(events).values(), default="")


def next_time(events: Iterable[tuple[str, Event]]) -> str:
    """Return the time for an event that must count as later than all of these."""
    return utc_after(journal_time(events))


def ahead_of_clock(events: Iterable[tuple[str, Event]]) -> str:
    """Return the journal's time if that is to come by more than a day, else ``""``."""
    latest = journal_time(events)
    return latest if latest and not has_come(latest) else ""


def has_come(time: str) -> bool:
    """Return whether it is so late, give or take the day that clocks may differ by."""
    seconds, now = seconds_of(time), seconds_of(utc_now())
    assert now is not None
    return seconds is not None and seconds <= now + AHEAD


class Grace:
    """Whether so many seconds have passed since an event, by the clock and by the journal.

    Args:
        events: The whole journal, each event after those that it names.
        seconds: The grace; with 0 nothing is waited for, whatever the clocks say.
    """

    def __init__(self, events: Sequence[tuple[str, Event]], seconds: int) -> None:
        self._events = events
        self._seconds = seconds
        self._now_text = utc_now()
        self._now = seconds_of(self._now_text) or 0
        self.times = effective_times(events)
        self._latest = max(self.times.values(), default="")
        known = (seconds_of(time) for time in self.times.values())
        self._seen = sorted(moment for moment in known if moment is not None)
        self._confirmed = max(
            (event.time for _, event in events if is_confirmation(event)), default=""
        )

    @property
    def leapt(self) -> str:
        """The journal's time, if the clock has come to now from there in one leap beyond the grace."""
        leap = self._now - self._seen[-1] if self._seen else 0
        return self._latest if self._seconds and leap > self._seconds else ""

    def to_note(self, *, waiting: bool) -> ClockSeen | None:
        """Return the event that says which time it is, if the journal has not known that for a day.

        Only where something is waiting for a grace to pass.
        """
        old = self._seen and self._now - self._seen[-1] > DAY
        if not waiting or not self._seconds or not old:
            return None
        return ClockSeen(since=self._latest)

    def require_sound_clock(self) -> None:
        """Raise ArchiverError if the journal has come to a time that this clock has not."""
        ahead = ahead_of_clock(self._events) if self._seconds else ""
        if ahead:
            raise ArchiverError(
                f"The journal has come to {ahead}, and this machine's clock says {self._now_text}: "
                "one of the two is wrong, so how long anything has waited is not known.",
                hint="Nothing was deleted. If the clock is wrong, set it. If it is right, "
                "'archiver prune --trust-clock' notes that in the journal.",
            )

    def since(self, by_journal: str, by_folder: str) -> str:
        """Return since when a file lies in a folder that is named by a time, by the later of two words.

        The folder's does not count where it is to come: the clock that named it was wrong.
        """
        if has_come(by_folder):
            return max(by_journal, by_folder)
        return by_journal or self._confirmed or by_folder

    def is_over(self, since: str) -> bool:
        """Return whether it has passed since this time, and the clock that says so can be believed.

        Where it leapt from before the end of the grace to a later time, by more than the grace, nobody
        knows whether weeks went by or the clock went wrong: a day later it is believed.
        """
        begun = seconds_of(since)
        if not self._seconds:
            return True
        if begun is None or self._now < begun + self._seconds:
            return False
        end = begun + self._seconds
        at = bisect_left(self._seen, end)
        before = max(begun, self._seen[at - 1]) if at else begun
        first = self._seen[at] if at < len(self._seen) else self._now
        return first - before <= self._seconds or self._now - first >= min(DAY, self._seconds)


def is_confirmation(event: Event) -> bool:
    """Return whether a person said that the clock of this event was right."""
    detail = event.detail
    return isinstance(detail, ClockSeen) and detail.confirmed


def latest_time(now: str) -> str:
    """Return the latest time that an event may have and count as of ``now``.

    Events that must count as later than others of their second run ahead by some seconds: whoever asks in
    that moment would else be told that what was done just now has not been done.
    """
    return utc_text((seconds_of(now) or 0) + AHEAD)
