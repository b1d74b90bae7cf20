"""Who watches over the reads of a thread from a hub, and may end them: light, and without a network.

What is watched for is in ``deadlines``, and here what a whole run may take.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from math import inf
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.plan.budget import RunBudget


class Watch(Protocol):
    """Watches over the reads of a request."""

    def left(self) -> float:
        """Return the seconds that the next read may take; raise when there shall be no other."""

    def note(self, seconds: float, count: int) -> None:
        """Account for a read that took ``seconds`` and brought ``count`` bytes."""


class RunEnd:
    """The end of a run's time, or of its window: also a slow list of thousands of names ends with it.

    ``what`` is what was asked for then.
    """

    def __init__(self, budget: RunBudget, what: str) -> None:
        self._budget = budget
        self._what = what

    def left(self) -> float:
        """As `Watch`; raise BudgetSpentError."""
        self._budget.require_time(self._what)
        return self._budget.seconds_left

    def note(self, seconds: float, count: int) -> None:
        """As `Watch`: the run's own clock goes on by itself."""


class _Watching(threading.local):
    watches: tuple[Watch, ...] = ()


_THIS_THREAD = _Watching()


@contextmanager
def watching(*watches: Watch) -> Iterator[None]:
    """Have this thread's reads from the hub watched, by these beside who watches them already."""
    before = _THIS_THREAD.watches
    _THIS_THREAD.watches = (*before, *watches)
    try:
        yield
    finally:
        _THIS_THREAD.watches = before


def watches_of_this_thread() -> tuple[Watch, ...]:
    """Return who watches over this thread's reads."""
    return _THIS_THREAD.watches


def seconds_left() -> float:
    """Return how long this thread may wait for the hub; raise as who watches its reads does."""
    return min((watch.left() for watch in _THIS_THREAD.watches), default=inf)
