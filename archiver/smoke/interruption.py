"""Ctrl-C while libraries run: what they swallow is made up for."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from types import FrameType


class Interruption:
    """Remembers that SIGINT came, and passes it on. Use as a context manager.

    Python drops an exception that arises inside a finalizer, and the libraries have many: a Ctrl-C
    that comes there would be lost, and the test would run on for minutes.
    """

    def __init__(self) -> None:
        self._came = False
        self._before: Any = None

    def __enter__(self) -> Self:
        before = signal.getsignal(signal.SIGINT)
        if callable(before) and threading.current_thread() is threading.main_thread():
            self._before = before
            signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._came = True
        self._before(number, frame)

    def check(self) -> None:
        """Raise KeyboardInterrupt if one came, whoever swallowed it."""
        if self._came:
            raise KeyboardInterrupt
