"""How the process's C library keeps memory, where that can be told (glibc); elsewhere nothing happens.

By default glibc gives every large block back at once, and each new one costs a fault per page; and
what it keeps, it keeps for the thread that freed it. Both can be told by hand.
"""

from __future__ import annotations

import contextlib
import ctypes
from typing import Final

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_KEPT_BYTES: Final = 512 << 20
_LARGE_BYTES: Final = 1 << 20


def keep_freed_blocks() -> None:
    """Let freed blocks be used again instead of giving each one back. Source: mallopt(3)."""
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def return_freed_blocks() -> None:
    """Give each large block back when it is freed, whatever was told before. Source: mallopt(3)."""
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, _LARGE_BYTES)


def give_back() -> None:
    """Give all that is free back, whichever thread freed it. Source: malloc_trim(3)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
