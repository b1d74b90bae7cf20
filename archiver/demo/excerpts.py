"""What the story shows of an output that is longer than a reader wants to see."""

from __future__ import annotations

from itertools import pairwise


def of_audit(text: str) -> str:
    """The verdict and the codes of the findings; what each one says is long."""
    rows = text.splitlines()
    return "\n".join([rows[0], *(row[:110] for row in rows[1:] if not row.startswith("  "))][:5])


def of_smoke_test(text: str) -> str:
    """How each level ended, the first thing that it showed, and the verdict."""
    rows = ["", *text.splitlines()]
    shown = (row for before, row in pairwise(rows) if not (_detail(before) and _detail(row)))
    return "\n".join(shown)


def _detail(row: str) -> bool:
    return row.startswith("  ")
