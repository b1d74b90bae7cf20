"""What a run of a plan may take, bytes and time, and what of it is used up."""

from __future__ import annotations

import threading
import time
from math import inf
from typing import TYPE_CHECKING, Final, Literal

from archiver.errors import BudgetSpentError
from archiver.text import wall_clock

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from archiver.plan.document import Budget

Spent = Literal["bytes", "time", "window"]
"""What is used up, as ``archive.events.Stopped``."""
_REASONS: Final[dict[Spent, str]] = {
    "bytes": "as many bytes were fetched as the run may fetch",
    "time": "the run has taken as long as it may take",
    "window": "the window in which the run may work is over",
}


class RunBudget:
    """The budget of one run, which begins now. Threads may share it.

    Time is counted by a clock that never jumps; the window's end comes also if the date passes it.

    Args:
        limits: Bytes and seconds.
        window_ends: When the run must be over; None: it may go on.
        clock: Seconds from any start, never going back.
        now: The date; None for this machine's.
    """

    def __init__(
        self,
        limits: Budget,
        window_ends: datetime | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] | None = None,
    ) -> None:
        self._limits = limits
        self._window_ends = window_ends
        self._clock = clock
        self._now = now or wall_clock
        self._started = clock()
        self._left = (window_ends - self._now()).total_seconds() if window_ends else 0.0
        self._lock = threading.Lock()
        self._fetched = 0

    def take(self, count: int) -> None:
        """Count bytes that were fetched."""
        with self._lock:
            self._fetched += count

    @property
    def spent(self) -> Spent | Literal[""]:
        """What is used up; ``""`` if nothing is."""
        seconds = self._clock() - self._started
        if self._window_ends and (seconds >= self._left or self._now() >= self._window_ends):
            return "window"
        if self._limits.seconds and seconds >= self._limits.seconds:
            return "time"
        if self._limits.bytes and self._fetched >= self._limits.bytes:
            return "bytes"
        return ""

    @property
    def seconds_left(self) -> float:
        """How long the run may go on, by the clock that never jumps; infinite if nothing says."""
        seconds = self._clock() - self._started
        window = self._left - seconds if self._window_ends else inf
        time = self._limits.seconds - seconds if self._limits.seconds else inf
        return max(min(window, time), 0.0)

    def require_time(self, what: str) -> None:
        """Raise BudgetSpentError, which names ``what`` was stopped, if its time or window is over."""
        if self.spent in {"time", "window"}:
            self.require(what)

    def require(self, what: str) -> None:
        """Raise BudgetSpentError, which names ``what`` was stopped, if something is used up."""
        spent = self.spent
        if spent:
            raise BudgetSpentError(what, spent, _REASONS[spent])
