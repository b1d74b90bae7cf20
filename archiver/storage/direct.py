"""Writing past the system's cache, where a filesystem lets one do so.

What goes through the cache is copied into fresh pages first, which costs more processor time than to decode
it: 0.4 s a GB where nobody else needs the memory's bandwidth, 2 s where somebody does.
"""

from __future__ import annotations

import errno
import mmap
import os
import threading
from typing import Final

BLOCK_ALIGN: Final = 4096
"""What is written so lies at multiples of this in memory; in the file, at least."""
DIRECT_MIN: Final = 1 << 20
"""Fewer bytes are not worth the wait for the disk."""
_NOT_DIRECT: Final = {errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS}
"""What a filesystem answers that has no such way, or wants other multiples."""


class DirectFile:
    """Writes whole blocks of an open file; the rest is left to the caller. Threads may write at once.

    No page of the cache, and no block of the filesystem, may take bytes from both ways: it could be read in
    for the one before the other wrote, and be written back over it.
    """

    def __init__(self, handle: int) -> None:
        """Write to the file that is open as ``handle``, which stays the caller's."""
        self._cached = handle
        self._handle: int | None = None
        self._lock = threading.Lock()
        self._block = max(BLOCK_ALIGN, mmap.PAGESIZE, os.fstat(handle).st_blksize)

    def blocks(self, offset: int, size: int) -> slice:
        """Return which of ``size`` bytes at ``offset`` of the file are whole blocks; if few, none."""
        if size < DIRECT_MIN:
            return slice(0, 0)
        begin = -offset % self._block
        return slice(begin, begin + (size - begin) // self._block * self._block)

    def write(self, offset: int, data: memoryview) -> int:
        """Write aligned ``data`` at an aligned ``offset``.

        Return how many bytes were written: maybe none; raise OSError where none can be at all.
        """
        with self._lock:
            if self._handle is None:
                self._handle = self._open()
        if self._handle < 0:
            return 0
        try:
            return os.pwrite(self._handle, data, offset)
        except OSError as error:
            if error.errno not in _NOT_DIRECT:
                raise
            return 0

    def _open(self) -> int:
        direct = getattr(os, "O_DIRECT", 0)
        if not direct:
            return -1
        try:
            # Not by its name, under which another file may lie by now.
            return os.open(f"/proc/self/fd/{self._cached}", os.O_WRONLY | os.O_CLOEXEC | direct)
        except OSError:
            return -1

    def close(self) -> None:
        """Let go."""
        if self._handle is not None and self._handle >= 0:
            os.close(self._handle)
        self._handle = -1
