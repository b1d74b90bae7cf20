"""docs/report.md, as far as a test compares it."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "docs" / "report.md").read_text(encoding="utf-8")


def keys() -> list[str]:
    """The keys of the record: the first cells of the table below 'The record'."""
    section = PAGE.partition("\n## The record\n")[2].partition("\n## ")[0]
    return sorted(re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE))
