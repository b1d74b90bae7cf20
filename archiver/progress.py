"""What a long operation tells of its course; who listens decides what to show."""

from __future__ import annotations

import threading
from typing import Final, Protocol

stop_requested: Final = threading.Event()
"""Set once the run was told to end: whoever waits for other processes in a thread stops waiting."""


class Progress(Protocol):
    """Told what happens, from several threads. All counts are bytes of plain content."""

    def phase(self, verb: str) -> None:
        """Another part of the work begins, such as ``Proving``; what is expected is told anew."""

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


class NoProgress:
    """For what is too short, or has nobody, to be told of."""

    def phase(self, verb: str) -> None:
        """Tell nobody."""

    def expect(self, files: int, size: int) -> None:
        """Tell nobody."""

    def begin(self, path: str, size: int) -> None:
        """Tell nobody."""

    def advance(self, count: int, *, fetched: bool) -> None:
        """Tell nobody."""

    def rewind(self, count: int) -> None:
        """Tell nobody."""

    def stored(self, plain: int, stored: int) -> None:
        """Tell nobody."""

    def end(self, path: str) -> None:
        """Tell nobody."""
