"""How findings are told: one record each and, for people, where, what, and what to do next."""

from __future__ import annotations

import re
from itertools import groupby
from typing import TYPE_CHECKING, Final

from archiver.cli import output
from archiver.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from archiver.archive.finding import Finding

_LONGEST: Final = 2000
_DIGEST: Final = re.compile(
    r"(?<!\w)'[^']*'(?!\w)|(?<![0-9a-f])([0-9a-f]{16})[0-9a-f]{48}(?![0-9a-f])"
)
"""A digest; or what stands in quotes, a command perhaps, to be typed as it is."""


def shortened(text: str) -> str:
    """Return a text for people: the first 16 digits of each digest, except in what can be typed."""
    return _DIGEST.sub(lambda found: f"{found[1]}…" if found[1] else found[0], text)


def record_all(findings: Iterable[Finding]) -> None:
    """One JSON line for each."""
    for finding in findings:
        output.record("finding", **finding.described())


def show_all(findings: Iterable[Finding]) -> None:
    """Each with its place and its message; a hint that several in a row share stands once, after them."""
    for hint, group in groupby(findings, lambda finding: finding.hint):
        for finding in group:
            output.line(placed(finding))
            output.line(f"    {printable(shortened(finding.message), _LONGEST)}")
        if hint:
            output.line(f"    → {printable(shortened(hint), _LONGEST)}")


def show_remarks(findings: Iterable[Finding]) -> None:
    """Those that are no damage, on standard error; a hint that several in a row share stands once."""
    remarks = [finding for finding in findings if finding.remark]
    for hint, group in groupby(remarks, lambda finding: finding.hint):
        for finding in group:
            message = printable(shortened(finding.message), _LONGEST)
            output.remark(f"remark: {finding.code}: {message}")
        if hint:
            output.remark(f"    → {printable(shortened(hint), _LONGEST)}")


def placed(finding: Finding) -> str:
    """Its code, and where it is."""
    rows = f" rows {finding.rows[0]}..{finding.rows[1]}" if finding.rows else ""
    told = [finding.snapshot, shortened(finding.path), finding.tensor + rows]
    return "  ".join([finding.code, *(printable(text, _LONGEST) for text in told if text)])
