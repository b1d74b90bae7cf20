"""Bringing a growing file to the disk bit by bit, so that its end need not wait for all of it.

The system keeps written bytes in memory for half a minute; a gigabyte that is synced at the end makes its
writer wait for as long as the disk takes, while it could have been written along the way.
"""

from __future__ import annotations

import os
import threading
from typing import Final

_EVERY: Final = 64 << 20


class EarlySync:
    """Syncs the open file ``handle`` in a thread of its own, each time 64 MiB more were written.

    It promises nothing: the one sync that counts is the writer's own, after ``finish``.
    """

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._pending = 0
        self._thread: threading.Thread | None = None
        self._failure: OSError | None = None

    def wrote(self, count: int) -> None:
        """``count`` bytes were appended. Raises OSError if an earlier sync failed."""
        self._pending += count
        if self._failure is not None:
            raise self._failure
        if self._pending >= _EVERY and (self._thread is None or not self._thread.is_alive()):
            self._pending = 0
            self._thread = threading.Thread(target=self._sync, name="early-sync", daemon=True)
            self._thread.start()

    def _sync(self) -> None:
        try:
            os.fdatasync(self._handle)
        except OSError as error:
            # Final: the kernel may have dropped what it could not write, and will not say so again.
            self._failure = error

    def finish(self) -> None:
        """Wait until nobody uses the handle. Raises OSError if a sync failed."""
        if self._thread is not None:
            self._thread.join()
        if self._failure is not None:
            raise self._failure
