"""How long a person waits for the shortest commands."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

import data
from measure import run as measured
from measure import scratch
from table import Check
from tools import ARCHIVER, init_archive

if TYPE_CHECKING:
    from measure import Usage
    from table import Report

HELP_SECONDS, LIST_SECONDS, IMPORT_SECONDS = 0.25, 0.6, 0.35


def run(report: Report, *, small: bool) -> None:
    """Measure --help, list of an archive with 21 snapshots, and an import of one small file."""
    repeats = 5 if small else 15
    models = sorted(data.get("snapshots").folder.iterdir())
    with scratch() as work:
        init_archive(work)
        place = ["-C", str(work / "store")]
        for model in models:
            measured([ARCHIVER, "-q", "import", *place, str(model)])
        commands = {
            "archiver --help": ([ARCHIVER, "--help"], HELP_SECONDS),
            f"archiver list of {len(models)} snapshots": ([ARCHIVER, "list", *place], LIST_SECONDS),
        }
        for what, (command, limit) in commands.items():
            measured(command)
            _judge(report, what, [measured(command) for _ in range(repeats)], limit)
        tiny = work / "tiny"
        tiny.mkdir()
        usages = []
        for number in range(repeats):
            (tiny / "config.json").write_text(
                f'{{"run": {number}}}'
            )  # new to the archive each time
            usages.append(measured([ARCHIVER, "-q", "import", *place, str(tiny)]))
        _judge(report, "archiver import of one small file", usages, IMPORT_SECONDS)


def _judge(report: Report, what: str, usages: list[Usage], limit: float) -> None:
    seconds = sorted(usage.wall for usage in usages)
    cpu = median(usage.cpu for usage in usages)
    note = f"{seconds[0]:.2f} to {seconds[-1]:.2f} s; CPU {cpu:.2f} s"
    report.checks.append(Check(what, median(seconds), limit, " s", note=note))
    report.raw[what] = usages
