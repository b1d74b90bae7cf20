"""Buffers that are used again: one thread's workspace, and a pool that threads share.

Fresh memory costs a page fault per 4 KiB, which halves the rate of everything that works on segments.
"""

from __future__ import annotations

import queue
import threading
from typing import Final

import numpy as np
import numpy.typing as npt

from archiver.errors import ArchiverError

Bytes = npt.NDArray[np.uint8]
Words16 = npt.NDArray[np.uint16]
Words32 = npt.NDArray[np.uint32]

BLOCK: Final = 512 << 10
"""16-bit words per numpy call, and half as many of 32 bits. The temporaries of fewer would lie in the
second-level cache, but each call lets go of the interpreter's lock, and threads that hand it on to each
other cost more: with a quarter as many a tenth of an import, with half as many a twentieth."""
_POLL_SECONDS: Final = 0.2


class Workspace:
    """One thread's buffers, grown on demand and never shrunk."""

    def __init__(self) -> None:
        self._buffers: dict[str, Bytes] = {}
        self.first: Words16 = np.empty(BLOCK, np.uint16)
        self.byte: Bytes = np.empty(BLOCK, np.uint8)
        self.half: Words16 = np.empty(BLOCK // 2, np.uint16)
        self.wide: Words32 = np.empty(BLOCK // 2, np.uint32)

    def take(self, name: str, size: int) -> Bytes:
        """Return the buffer ``name``, cut to ``size`` bytes; its content is whatever was."""
        buffer = self._buffers.get(name)
        if buffer is None or len(buffer) < size:
            buffer = None
            self._buffers.pop(name, None)  # first: the two are not to be there at once
            buffer = self._buffers[name] = np.empty(size, np.uint8)
        return buffer[:size]


_local = threading.local()


def workspace() -> Workspace:
    """Return the calling thread's workspace."""
    own: Workspace | None = getattr(_local, "workspace", None)
    if own is None:
        own = _local.workspace = Workspace()
    return own


class BufferPool:
    """At most ``count`` buffers of ``size`` bytes, for threads that fill and threads that empty them.

    A thread that finds none free waits: so memory is bounded, and what fills is as fast as what empties.
    """

    def __init__(self, count: int, size: int) -> None:
        self._size = size
        self._free: queue.LifoQueue[Bytes | None] = queue.LifoQueue()
        self._closed = False
        for _ in range(count):
            self._free.put(None)  # allocated when first taken

    def take(self) -> Bytes:
        """Return a buffer for this thread alone; raise ArchiverError if the pool was closed meanwhile."""
        while not self._closed:
            try:
                buffer = self._free.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                continue
            return np.empty(self._size, np.uint8) if buffer is None else buffer
        raise ArchiverError("The run was stopped.")

    def give_back(self, buffer: Bytes) -> None:
        """Let another thread have the buffer."""
        self._free.put(buffer)

    def close(self) -> None:
        """Wake all who wait; they get an error."""
        self._closed = True
