"""What the C library does with freed memory, where it can be told (glibc); elsewhere nothing happens.

By default glibc returns every large block to the system at once, so that each new one costs a fault per
page; and what it keeps, it keeps for the thread that freed it.
"""

from __future__ import annotations

import contextlib
import ctypes
from typing import Final

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_RETAINED_BYTES: Final = 512 << 20
_LARGE_BYTES: Final = 1 << 20


def keep_freed_blocks() -> None:
    """Let freed blocks be used again, instead of returning each to the system. Source: mallopt(3)."""
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
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
