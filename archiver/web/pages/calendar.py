"""A year of days as a drawing: a column a week, from Monday to Sunday, the newest last."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from archiver.report.facts import WEEKS, monday
from archiver.text import seconds_of

if TYPE_CHECKING:
    from collections.abc import Mapping

CELL: Final = 10
PITCH: Final = 12.5
"""A day's side, and the way to the next, in units of the drawing."""
LEFT: Final = 28
TOP: Final = 16
"""Room for the names of days and months."""
_WEEKDAYS: Final = ((0, "Mon"), (2, "Wed"), (4, "Fri"))

Mark = Literal["", "deep", "damaged", "mended"]
"""What a day has besides its shade, so that no colour is needed to see it."""


class Look(NamedTuple):
    """How a day looks: its shade, from 0 to 4, its mark, and what it says."""

    shade: int
    mark: Mark
    text: str


class Cell(NamedTuple):
    """A day of the drawing, at its upper left corner."""

    x: float
    y: float
    look: Look


class Label(NamedTuple):
    """A word beside the days."""

    x: float
    y: float
    text: str


class Calendar(NamedTuple):
    """The drawing: days of which there is something to say, and ``blank`` ones; ``text`` sums it up."""

    width: float
    height: float
    cells: tuple[Cell, ...]
    blank: tuple[tuple[float, float], ...]
    labels: tuple[Label, ...]
    text: str


def draw(looks: Mapping[str, Look], now: str, text: str) -> Calendar:
    """Return the drawing of the last 53 weeks; ``looks`` are those of days (YYYY-MM-DD)."""
    first = datetime.fromisoformat(monday(now, weeks=WEEKS - 1)).replace(tzinfo=UTC)
    last = datetime.fromtimestamp(seconds_of(now) or 0, UTC)
    cells: list[Cell] = []
    blank: list[tuple[float, float]] = []
    labels = [Label(0, TOP + at * PITCH + CELL - 1.5, name) for at, name in _WEEKDAYS]
    for number in range((last - first).days + 1):
        week, weekday = divmod(number, 7)
        x, y = LEFT + week * PITCH, TOP + weekday * PITCH
        day = first + timedelta(days=number)
        if day.day == 1 and week < WEEKS - 2:  # a name needs more room than the last ones have
            labels.append(Label(x, TOP - 5, f"{day:%b}"))
        look = looks.get(f"{day:%Y-%m-%d}")
        if look is None:
            blank.append((x, y))
        else:
            cells.append(Cell(x, y, look))
    return Calendar(
        width=LEFT + WEEKS * PITCH - (PITCH - CELL),
        height=TOP + 7 * PITCH - (PITCH - CELL),
        cells=tuple(cells),
        blank=tuple(blank),
        labels=tuple(labels),
        text=text,
    )
