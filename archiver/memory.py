"""How much memory a run may take, and what the C library does with freed memory (glibc only).

By default glibc returns every large block to the system at once, so that each new one costs a fault per
page; and what it keeps, it keeps for the thread that freed it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from pathlib import Path
from typing import Final, NamedTuple

BUDGET: Final = 400_000_000
"""What a run may take if nobody says otherwise, in bytes."""
BUDGET_MIN: Final = 200_000_000
"""The least that can be asked for: the interpreter, its libraries, and one thread with its buffers."""
_INTERPRETER: Final = 70_000_000
"""What a process has before any buffer, where the system does not say what it has."""
_GROWTH: Final = 40_000_000
"""What comes beside the buffers: stacks, records, what the C library holds back for each thread."""

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8
_RETAINED_BYTES: Final = 512 << 20
_LARGE_BYTES: Final = 1 << 20


class MemoryBudget(NamedTuple):
    """The bytes that a process may hold, and the cores that it may use.

    How many threads work, and so how many buffers there are, follows from both: a machine of 64 cores
    takes no more memory than one of two.
    """

    size: int = BUDGET
    cores: int = 1

    def room(self, kept: int = _GROWTH) -> int:
        """Return how many bytes of buffers there is room for beside what the process holds now.

        ``kept`` are left for what is not a buffer and is still to come.
        """
        return max(0, self.size - resident_bytes() - kept)

    def workers(self, each: int, shared: int = 0, kept: int = _GROWTH) -> int:
        """Return how many threads to start: one a core, as far as there is room, and at least one.

        Args:
            each: The bytes that one thread holds at most, its buffers included.
            shared: The bytes that all of them hold together, however many they are.
            kept: See ``room``.
        """
        return max(1, min(self.cores, (self.room(kept) - shared) // each))


def available_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


def resident_bytes() -> int:
    """Return the memory that this process has now, in bytes; an estimate where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_bytes().split()[1])
    except (OSError, ValueError, IndexError):
        return _INTERPRETER
    return pages * os.sysconf("SC_PAGE_SIZE")


def keep_freed_blocks() -> None:
    """Let freed blocks be used again, instead of returning each to the system. Source: mallopt(3)."""
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        # Whichever thread freed them: each would keep for itself what it needed most, once.
        libc.mallopt(_M_ARENA_MAX, 1)
        libc.mallopt(_M_MMAP_THRESHOLD, _RETAINED_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, _RETAINED_BYTES)


def return_freed_blocks() -> None:
    """Return each large block to the system when it is freed, also after the above. Source: mallopt(3)."""
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, _LARGE_BYTES)


def trim() -> None:
    """Return all that is free to the system, whichever thread freed it. Source: malloc_trim(3)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
