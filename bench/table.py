"""Rows and verdicts, and how they are printed."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Check:
    """One target: the figure must be at most (or at least) the limit."""

    what: str
    figure: float
    limit: float
    unit: str = ""
    at_least: bool = False
    note: str = ""

    @property
    def reached(self) -> bool:
        """Whether the figure keeps the limit."""
        return self.figure >= self.limit if self.at_least else self.figure <= self.limit

    def row(self) -> list[str]:
        """The check as a line of a table."""
        sign = "≥" if self.at_least else "≤"
        return [
            self.what,
            f"{sign} {_number(self.limit)}{self.unit}",
            f"{_number(self.figure)}{self.unit}",
            "reached" if self.reached else "**not reached**",
            self.note,
        ]


@dataclass
class Report:
    """What one run found."""

    tables: list[tuple[str, list[str], list[list[str]]]] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    raw: dict[str, Any] = field(default_factory=dict)

    def markdown(self, head: str) -> str:
        """The whole report."""
        parts = [head]
        if self.checks:
            rows = [check.row() for check in self.checks]
            parts += ["## Targets", table(["what", "target", "measured", "", "spread"], rows)]
        for title, names, rows in self.tables:
            parts += [f"## {title}", table(names, rows)]
        if self.notes:
            parts += ["## Notes", "\n".join(f"- {note}" for note in self.notes)]
        return "\n\n".join(parts) + "\n"

    def data(self) -> dict[str, Any]:
        """The same for programs, with every single measurement."""
        checks = [asdict(check) | {"reached": check.reached} for check in self.checks]
        return {"checks": checks, "notes": self.notes, "measurements": self.raw}


def table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with its columns aligned."""
    lines = [list(names), *map(list, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(names))]
    cells = ([c.ljust(w) for c, w in zip(line, widths, strict=True)] for line in lines)
    text = ["| " + " | ".join(line) + " |" for line in cells]
    text.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(text)


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}" if value >= 1 else f"{value:.4f}"
