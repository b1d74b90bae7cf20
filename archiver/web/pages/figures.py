"""The geometry of drawings, as numbers that a template puts into SVG: no page has a style of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

WIDTH: Final = 100.0
"""The length of a bar in the units of its drawing."""
_LEAST: Final = 0.6
"""What is there at all is seen."""


def part_of(part: float, whole: float) -> float:
    """Return the length of a bar that stands for a part of a whole."""
    if whole <= 0 or part <= 0:
        return 0.0
    return round(min(max(WIDTH * part / whole, _LEAST), WIDTH), 2)


class Stretch(NamedTuple):
    """One part of a stacked bar: where it begins, its length, its number from 1, what it is called."""

    x: float
    width: float
    number: int
    label: str
    amount: int


def stacked(parts: Iterable[tuple[str, int]], most: int) -> list[Stretch]:
    """Return the parts, the first ``most - 1`` one by one and the others as one."""
    listed = [(label, amount) for label, amount in parts if amount > 0]
    if len(listed) > most:
        rest = sum(amount for _, amount in listed[most - 1 :])
        listed = [*listed[: most - 1], ("others", rest)]
    whole = sum(amount for _, amount in listed)
    stretches: list[Stretch] = []
    at = 0
    for number, (label, amount) in enumerate(listed, 1):
        x, end = WIDTH * at / whole, WIDTH * (at + amount) / whole
        stretches.append(Stretch(round(x, 2), round(end - x, 2), number, label, amount))
        at += amount
    return stretches
