"""A limit on how fast bytes pass, shared by every stream of a run."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from archiver.progress import pause

if TYPE_CHECKING:
    from collections.abc import Callable


class Throttle:
    """A token bucket: over any time, at most ``rate`` x seconds + ``burst`` bytes pass.

    A caller takes bytes after it has received them; while it waits, TCP holds the sender back.
    The level may fall below zero, so that a chunk larger than the bucket passes too, and waits longer.

    Args:
        rate: Bytes per second for all callers together, more than 0.
        burst: Bytes that may pass at once after a pause; default: a quarter of a second's worth.
        clock: Seconds from any start, never going back.
        sleep: Waits for a number of seconds; raises KeyboardInterrupt when the run is to end.
    """

    def __init__(
        self,
        rate: float,
        burst: float | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = pause,
    ) -> None:
        if not rate > 0:
            raise ValueError(f"A rate of {rate} bytes per second lets nothing through.")
        self.rate = rate
        self._burst = rate / 4 if burst is None else burst
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._level = self._burst
        self._filled = clock()

    def take(self, count: int) -> None:
        """Account for ``count`` received bytes; sleep as long as they are above the rate."""
        with self._lock:
            now = self._clock()
            earned = max(0.0, now - self._filled) * self.rate
            self._level = min(self._burst, self._level + earned) - count
            self._filled = now
            debt = -self._level
        if debt > 0:
            self._sleep(debt / self.rate)
