"""Peak memory, in and out, of a model and of one with eight times as many of the same tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import data
from measure import run as measured
from measure import scratch
from table import Check
from tools import NORMAL

if TYPE_CHECKING:
    from measure import Usage
    from table import Report

LIMIT_MB = 400
INPUTS = {False: ("memory-0.5gb", "memory-4gb"), True: ("hub-0.2gb", "memory-0.5gb")}


def run(report: Report, *, small: bool) -> None:
    """Measure both sizes."""
    usages = {name: in_and_out(report, name) for name in INPUTS[small]}
    less, more = INPUTS[small]
    for way, verb in enumerate(("import", "restore")):
        ratio = usages[more][way].rss / usages[less][way].rss
        what = f"peak of {verb}, {more} by {less}"
        report.checks.append(Check(what, ratio, 1.1, "x"))


def in_and_out(report: Report, name: str) -> tuple[Usage, Usage]:
    """Import and restore one input, and judge the peaks of both."""
    item = data.get(name)
    data.touch(item)
    with scratch() as work:
        NORMAL.prepare(work)
        keep, give = NORMAL.commands(item, work)
        into, out = measured(keep, NORMAL.env(work)), measured(give, NORMAL.env(work))
    for verb, usage in (("import", into), ("restore", out)):
        what = f"peak of {verb} of {name}"
        note = f"{item.size / 1e6 / usage.wall:.0f} MB/s"
        report.checks.append(Check(what, usage.rss / 1e6, LIMIT_MB, " MB", note=note))
    report.raw[f"memory {name}"] = {"in": into, "out": out}
    return into, out
