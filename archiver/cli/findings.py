"""How findings are told: one record each and, for people, where, what, and what to do next."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Final

from archiver.cli import output
from archiver.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from archiver.archive.finding import Finding

_LONGEST: Final = 2000


def record_all(findings: Iterable[Finding]) -> None:
    """One JSON line for each."""
    for finding in findings:
        output.record("finding", **finding.described())


def show_all(findings: Iterable[Finding]) -> None:
    """Each with its place and its message; a hint that several in a row share stands once, after them."""
    for hint, group in groupby(findings, lambda finding: finding.hint):
        for finding in group:
            output.line(placed(finding))
            output.line(f"    {printable(finding.message, _LONGEST)}")
        if hint:
            output.line(f"    → {printable(hint, _LONGEST)}")


def placed(finding: Finding) -> str:
    """Its code, and where it is."""
    rows = f" rows {finding.rows[0]}..{finding.rows[1]}" if finding.rows else ""
    told = [finding.snapshot, finding.path, finding.tensor + rows]
    return "  ".join([finding.code, *(printable(text, _LONGEST) for text in told if text)])
