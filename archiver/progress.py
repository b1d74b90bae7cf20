"""How a long operation reports its progress; whoever receives it decides what to show."""

from __future__ import annotations

import threading
from typing import Final

stop_requested: Final = threading.Event()
"""Set once the run is to end: a thread that waits for other processes stops waiting."""


class StoppedError(Exception):
    """The run has ended: a thread that still works for it ends too. Nobody hears of it."""


def pause(seconds: float) -> None:
    """Wait so long; raise KeyboardInterrupt at once when the run is to end."""
    if stop_requested.wait(seconds):
        raise KeyboardInterrupt


class Progress:
    """Receives what happens, from several threads, and shows nothing; what shows it is a kind of it.

    All counts are bytes of plain content.
    """

    def phase(self, verb: str) -> None:
        """Another part of the work begins, such as ``Proving``; all is counted from nothing."""

    def expect(self, files: int, size: int) -> None:
        """How many files and bytes there are to do in all."""

    def begin(self, path: str, size: int) -> None:
        """A file of ``size`` bytes begins."""

    def advance(self, count: int, *, fetched: bool) -> None:
        """``count`` bytes are done; ``fetched`` unless they were held or there already."""

    def rewind(self, count: int) -> None:
        """``count`` bytes of a file are to be done again."""

    def stored(self, plain: int, stored: int) -> None:
        """``plain`` bytes were written as ``stored`` bytes."""

    def end(self, path: str) -> None:
        """A file is complete and checked."""
