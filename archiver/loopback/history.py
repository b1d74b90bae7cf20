"""What happens at a hub from day to day: a history that a test writes, and plays under a clock of its own.

::

    history = History(hub)
    history.on(3, lambda hub: hub.commit("org/name", {"config.json": b"{}"}))
    history.on(9, lambda hub: hub.force_push("org/name", {"config.json": b"[]"}))
    history.play(until=10)

Nothing waits, and the same history gives the same commits each time. A year costs as much as its files.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from archiver.loopback.hub import Hub

Act = Callable[["Hub"], object]
"""Something that happens to a hub, or its owner does."""


class Happening(NamedTuple):
    """Something that happens on a day; ``title`` says what, for whoever reads a failed test."""

    day: int
    title: str
    act: Act


class Sight(NamedTuple):
    """What anybody could see on a day: repository -> branch or tag -> commit."""

    day: int
    refs: dict[str, dict[str, str]]


class History:
    """The days of a hub, from 0 on; ``played`` is what happened, ``seen`` what was to be seen each day."""

    def __init__(self, hub: Hub) -> None:
        self.day = -1
        self.played: list[Happening] = []
        self.seen: list[Sight] = []
        self._hub = hub
        self._ahead: list[Happening] = []

    def on(self, day: int, act: Act, title: str = "") -> None:
        """Have something happen on ``day``, after what was put there before."""
        self._ahead.append(Happening(day, title, act))

    def between(self, first: int, last: int, begin: Act, end: Act, title: str = "") -> None:
        """Have something begin on a day, and end on the day after ``last``, such as an outage."""
        self.on(first, begin, title)
        self.on(last + 1, end, f"end of {title}" if title else "")

    def play(self, until: int) -> list[Happening]:
        """Live through every day up to ``until``; return what happened."""
        begun = len(self.played)
        while self.day < until:
            self.day += 1
            today = [happening for happening in self._ahead if happening.day <= self.day]
            self._ahead = [happening for happening in self._ahead if happening.day > self.day]
            for happening in today:
                happening.act(self._hub)
                self.played.append(happening)
            self.seen.append(Sight(self.day, self._hub.visible()))
        return self.played[begun:]
