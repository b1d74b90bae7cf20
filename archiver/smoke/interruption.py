"""Being told to stop while libraries run: what they swallow is made up for."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    from types import FrameType

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interruption:
    """Remembers that a signal came which ends the program, and passes it on. A context manager.

    Python drops an exception that arises inside a finalizer, and the libraries have many: a Ctrl-C
    that comes there would be lost, and the test would run on for minutes.
    """

    def __init__(self) -> None:
        self._came = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                before = signal.getsignal(number)
                if callable(before):
                    self._before[number] = before
                    signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._came = True
        self._before[number](number, frame)

    def check(self) -> None:
        """Raise KeyboardInterrupt if one came, whoever swallowed it."""
        if self._came:
            raise KeyboardInterrupt
