"""How often and how patiently an upstream is asked again, and after which failures."""

from __future__ import annotations

import logging
import random
import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from archiver.progress import pause
from archiver.text import human_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_log = logging.getLogger(__name__)

_SECONDS = re.compile(r"\s*([0-9]{1,9})(?:\.[0-9]*)?\s*\Z")
_RATE_LIMIT = re.compile(r";\s*r\s*=\s*0\s*(?:;[^,]*?)?;\s*t\s*=\s*([0-9]{1,9})")
_LARGEST_EXPONENT = 30
_LONGEST_HEADER = 1000
"""Characters of a header that are looked at; patterns take long over a hundred thousand."""
_WORTH_TELLING = 60.0


class RetryableError(Exception):
    """An attempt failed in a way that another one may not; ``requested`` is the wait in seconds.

    ``unreached``: there was not even a connection. ``slow``: bytes came, but too few. ``link``: it
    was the CDN that refused the link which the hub gave. ``busy``: there were too many requests.
    """

    def __init__(
        self,
        reason: str,
        requested: float | None = None,
        *,
        unreached: bool = False,
        slow: bool = False,
        link: bool = False,
        busy: bool = False,
    ) -> None:
        if requested is not None and requested > _WORTH_TELLING:
            reason = f"{reason}, which asks to wait {human_duration(requested)}"
        super().__init__(reason)
        self.reason = reason
        self.requested = requested
        self.unreached = unreached
        self.slow = slow
        self.link = link
        self.busy = busy

    def __str__(self) -> str:
        return f"hub does not answer ({self.reason})" if self.unreached else f"hub: {self.reason}"


def in_a_row(failures: int) -> str:
    """Return how often an attempt failed, as the end of a sentence."""
    return f", {failures} times in a row" if failures > 1 else ""


class Wait(NamedTuple):
    """A wait before an attempt: why, the attempt's number and how many there are at most, and how long.

    ``attempt`` is 0 where bytes came in between, so that nobody counts.
    """

    reason: str
    attempt: int
    attempts: int
    seconds: float


def _tell_nobody(_wait: Wait) -> None:
    pass


@dataclass(frozen=True)
class RetryPolicy:
    """Exponential backoff with jitter, overruled by what the server asks for.

    Args:
        attempts: How many requests in a row may fail before the work is given up.
        base: The first wait in seconds; each later one is twice as long.
        cap: The longest wait in seconds that is chosen here.
        longest_requested: The longest wait in seconds that a server's ``Retry-After`` may impose; the
            Hub's rate limits are counted over five minutes.
        longest_believed: A server that asks for a longer wait than this, in seconds, is given up.
        sleep: Waits for a number of seconds; raises KeyboardInterrupt when the run is to end.
        jitter: A number in [0, 1); it lengthens a wait by up to a half, so that many streams
            which failed together do not come back together.
        now: The time as seconds since 1970, for dates in ``Retry-After``.
        notify: Told of each wait. Threads call it.
    """

    attempts: int = 8
    base: float = 0.5
    cap: float = 30.0
    longest_requested: float = 330.0
    longest_believed: float = 86_400.0
    sleep: Callable[[float], None] = pause
    jitter: Callable[[], float] = random.random
    now: Callable[[], float] = time.time
    notify: Callable[[Wait], None] = _tell_nobody

    def wait(
        self,
        failures: int,
        requested: float | None = None,
        *,
        reason: str = "",
        attempts: int = 0,
        longest: float = inf,
    ) -> float:
        """Sleep before the next attempt and return the seconds slept.

        Args:
            failures: How many attempts have failed in a row, from 1.
            requested: The seconds that the server asked for, None if it did not.
            reason: What went wrong, as a sentence without its end, for ``notify``.
            attempts: How many there will be, if fewer than the policy has.
            longest: The most seconds to sleep, whatever was asked for.
        """
        seconds = min(self.delay(failures, requested), longest)
        count = f"try {failures + 1} of {attempts or self.attempts}" if failures else "going on"
        _log.info("%s; %s in %.1f s", reason, count, seconds)
        number = failures + 1 if failures else 0
        self.notify(Wait(reason, number, attempts or self.attempts, seconds))
        self.sleep(seconds)
        return seconds

    def hopeless(self, requested: float | None) -> bool:
        """Return whether a server asks for so long a wait that no attempt is worth making before."""
        return requested is not None and requested > self.longest_believed

    def delay(self, failures: int, requested: float | None = None) -> float:
        """Return the seconds to wait before the next attempt."""
        exponent = min(max(failures - 1, 0), _LARGEST_EXPONENT)
        own = min(self.cap, self.base * float(2**exponent)) * (1 + self.jitter() / 2)
        if requested is None or requested < own:
            return own
        # Jitter also above what was requested: coming back a little late is polite, early is not.
        return min(self.longest_requested, requested) + self.base * self.jitter()

    def requested_by(self, headers: Mapping[str, str]) -> float | None:
        """Return the seconds that a response's headers ask for, None if they do not.

        ``Retry-After`` is a number of seconds or an HTTP date (RFC 9110, 10.2.3); ``RateLimit`` is
        the Hub's ``"api";r=0;t=55``, of which ``t`` counts once nothing remains (``r=0``).
        """
        after = self._retry_after(headers.get("retry-after", "")[:_LONGEST_HEADER])
        limit = _RATE_LIMIT.search(headers.get("ratelimit", "")[:_LONGEST_HEADER])
        waits = [wait for wait in (after, float(limit[1]) if limit else None) if wait is not None]
        return max(waits, default=None)

    def _retry_after(self, value: str) -> float | None:
        seconds = _SECONDS.match(value)
        if seconds:
            return float(seconds[1])
        try:
            moment = parsedate_to_datetime(value)
            if moment.tzinfo is None:
                moment = moment.replace(tzinfo=UTC)
            return max(0.0, (moment - datetime.fromtimestamp(self.now(), UTC)).total_seconds())
        except (ValueError, OverflowError, TypeError, IndexError):
            return None
