"""The end of a night's window: what runs is interrupted as by Ctrl-C, and the night comes to its end."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

from archiver.progress import stop_requested

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType, TracebackType


class Deadline:
    """Interrupts a step, by KeyboardInterrupt, once so many seconds have passed; None: never.

    Everything that survives an interruption survives this. Seconds are counted by a clock that never
    jumps. Only the main thread can be interrupted: elsewhere no step is, and the next one is not begun.

    Attributes:
        passed: Whether it has come.
    """

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._timer: threading.Timer | None = None
        self._interrupts = False
        self._before = signal.SIG_DFL
        self.passed = False

    def __enter__(self) -> Self:
        if self._seconds is None:
            return self
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGALRM, self._end)  # type: ignore[assignment] # what was
            signal.setitimer(signal.ITIMER_REAL, max(self._seconds, 0.001))
        else:
            self._timer = threading.Timer(self._seconds, self._pass)
            self._timer.daemon = True
            self._timer.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        elif self._seconds is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, self._before)

    @contextmanager
    def interrupting(self) -> Iterator[None]:
        """Only what runs in the block is interrupted."""
        self._interrupts = True
        try:
            yield
        finally:
            self._interrupts = False

    def _pass(self) -> None:
        self.passed = True

    def _end(self, _number: int, _frame: FrameType | None) -> None:
        self.passed = True
        if self._interrupts:
            stop_requested.set()
            raise KeyboardInterrupt
