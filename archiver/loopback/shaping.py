"""A bandwidth limit that all connections share, so that loopback feels like a network link."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_UNSHAPED_CHUNK = 8 * 1024 * 1024
_LARGEST_CHUNK = 256 * 1024
_SMALLEST_CHUNK = 512
_CHUNKS_A_SECOND = 100
_CREDIT_SECONDS = 0.02


class Shaper:
    """Lets through ``rate`` bytes a second over all connections together; None is no limit.

    Each chunk gets a time slot on one shared timeline. A thread that oversleeps may catch up by at
    most ``_CREDIT_SECONDS``, so the mean is exact although sleeps are not.
    """

    def __init__(self, stopping: threading.Event) -> None:
        self.rate: float | None = None
        self._stopping = stopping
        self._lock = threading.Lock()
        self._next_slot = 0.0

    def chunks(self, total: int) -> Iterator[int]:
        """Cut ``total`` bytes into chunks, each given out when its turn has come."""
        while total > 0:
            chunk = min(total, self._chunk_size())
            self._wait_for(chunk)
            yield chunk
            total -= chunk

    def _chunk_size(self) -> int:
        if self.rate is None:
            return _UNSHAPED_CHUNK
        return max(_SMALLEST_CHUNK, min(_LARGEST_CHUNK, int(self.rate / _CHUNKS_A_SECOND)))

    def _wait_for(self, count: int) -> None:
        rate = self.rate
        if rate is None:
            return
        with self._lock:
            now = time.monotonic()
            slot = max(self._next_slot, now - _CREDIT_SECONDS)
            self._next_slot = slot + count / rate
        if slot > now and self._stopping.wait(slot - now):
            raise ConnectionAbortedError("The hub is stopping.")
