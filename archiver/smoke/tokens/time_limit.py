"""A limit on the time and the memory that code from a checkpoint, such as a template, may take."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

_ADDRESSES: Final = 512 * 1024**2
"""What a template may allocate beyond what there is; one that is sound needs some kilobytes."""


class TimeUpError(Exception):
    """It took longer than it may."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeUpError in what is run here, once the process has computed for ``seconds``.

    Time on the clock would blame a sound template for a busy machine. Python code alone can be
    interrupted, and only in the main thread; elsewhere it runs without a limit.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(
        signal, "setitimer"
    ):
        yield
        return
    before = signal.signal(signal.SIGVTALRM, _time_up)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _time_up(_number: int, _frame: FrameType | None) -> NoReturn:
    raise TimeUpError


@contextmanager
def memory_limit() -> Iterator[None]:
    """Raise MemoryError in what allocates 512 MiB more than the process has; on Linux only."""
    try:
        import resource  # noqa: PLC0415 - Unix only

        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - no path of ours
            pages = int(file.read().split()[0])
    except (ImportError, OSError):
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = pages * resource.getpagesize() + _ADDRESSES
    allowed = [limit for limit in (soft, hard, wanted) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min(allowed), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
