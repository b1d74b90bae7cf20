"""Peak memory, in and out: of a model and of one with eight times as many tensors, and by cores."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import data
from cases_mirror import hub, mirror
from measure import run as measured
from measure import scratch
from table import Check
from tools import NORMAL

if TYPE_CHECKING:
    from measure import Usage
    from table import Report

LIMIT_MB: Final = 400
INPUTS: Final = {False: ("memory-0.5gb", "memory-4gb"), True: ("hub-0.2gb", "memory-0.5gb")}
BY_CORES: Final = {False: "hub-2gb", True: "hub-0.2gb"}
CORES: Final = (1, 2, 16, 64)
_WITH_CORES: Final = str(Path(__file__).with_name("with_cores.py"))


def run(report: Report, *, small: bool) -> None:
    """Measure both sizes, and one of them as on machines of several sizes."""
    usages = {name: in_and_out(report, name) for name in INPUTS[small]}
    less, more = INPUTS[small]
    for way, verb in enumerate(("import", "restore")):
        ratio = usages[more][way].rss / usages[less][way].rss
        what = f"peak of {verb}, {more} by {less}"
        report.checks.append(Check(what, ratio, 1.1, "x"))
    for cores in CORES:
        in_and_out(report, BY_CORES[small], cores)
    item = data.get(BY_CORES[small])
    with hub(item) as endpoint:
        for cores in CORES:
            program = (sys.executable, _WITH_CORES, str(cores))
            usage = mirror(item, endpoint, "normal", program=program)
            what = f"peak of mirror of {item.name} with {cores} cores"
            report.checks.append(Check(what, usage.rss / 1e6, LIMIT_MB, " MB"))
            report.raw[f"memory mirror {cores} cores"] = usage


def in_and_out(report: Report, name: str, cores: int = 0) -> tuple[Usage, Usage]:
    """Import and restore one input, and judge the peaks of both; ``cores`` are made up if given."""
    item = data.get(name)
    data.touch(item)
    with scratch() as work:
        NORMAL.prepare(work)
        commands = NORMAL.commands(item, work)
        if cores:
            keep, give = (
                [sys.executable, _WITH_CORES, str(cores), *words[1:]] for words in commands
            )
        else:
            keep, give = commands
        into, out = measured(keep, NORMAL.env(work)), measured(give, NORMAL.env(work))
    of = f"{name} with {cores} cores" if cores else name
    for verb, usage in (("import", into), ("restore", out)):
        what = f"peak of {verb} of {of}"
        note = "" if cores else f"{item.size / 1e6 / usage.wall:.0f} MB/s"
        report.checks.append(Check(what, usage.rss / 1e6, LIMIT_MB, " MB", note=note))
    report.raw[f"memory {of}"] = {"in": into, "out": out}
    return into, out
