"""A fixed set of large buffers, shared by the threads that fill and the threads that empty them."""

from __future__ import annotations

import queue
from typing import TYPE_CHECKING, Final

import numpy as np

from archiver.codec.segment import SEGMENT_MAX
from archiver.errors import ArchiverError

if TYPE_CHECKING:
    from archiver.codec.zstd import Bytes

_POLL_SECONDS: Final = 0.2


class BufferPool:
    """At most ``count`` buffers of 16 MiB; ``take`` waits until one is free."""

    def __init__(self, count: int) -> None:
        self._free: queue.LifoQueue[Bytes | None] = queue.LifoQueue()
        self._closed = False
        for _ in range(count):
            self._free.put(None)  # allocated when first taken

    def take(self) -> Bytes:
        """A buffer for this thread alone; ArchiverError if the pool was closed meanwhile."""
        while not self._closed:
            try:
                buffer = self._free.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                continue
            return np.empty(SEGMENT_MAX, np.uint8) if buffer is None else buffer
        raise ArchiverError("The run was stopped.")

    def give(self, buffer: Bytes) -> None:
        """Return a buffer."""
        self._free.put(buffer)

    def close(self) -> None:
        """Wake all who wait; they get an error."""
        self._closed = True
