"""A repository of 190,080 tensors, as the largest FP8 models have: memory, and opening its manifest."""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import data
from measure import run as measured
from measure import scratch
from table import Check
from tools import ARCHIVER, NORMAL

if TYPE_CHECKING:
    from table import Report

MEMORY_MB = 400
OPEN_SECONDS = 2.0
_OPENED = "manifest of 190,080 tensors opened"
_OPEN = """
import sys
from pathlib import Path
from archiver.archive.archive import Archive
archive = Archive.open(Path(sys.argv[1]))
manifest = archive.manifest(archive.find(sys.argv[2], None).seal)
count = sum(len(file.tensors) for file in manifest.files)
assert count > 190_000, count
"""


def run(report: Report, *, small: bool) -> None:
    """Import, open three times, restore."""
    repeats = 1 if small else 3
    item = data.get("tensors")
    data.touch(item)
    with scratch() as work:
        NORMAL.prepare(work)
        env = NORMAL.env(work)
        keep, give = NORMAL.commands(item, work)
        into = measured(keep, env)
        archive, name = str(work / "store"), f"bench/{item.name}"
        ways = {
            f"{_OPENED} by the library": [sys.executable, "-c", _OPEN, archive, name],
            f"{_OPENED} by 'archiver show'": [ARCHIVER, "show", "-C", archive, name],
        }
        opened = {what: [measured(way, env) for _ in range(repeats)] for what, way in ways.items()}
        out = measured(give, env)
        manifest = next(Path(archive, "manifests").rglob("*.zst")).stat().st_size
    for verb, usage in (("import", into), ("restore", out)):
        what = f"peak of {verb} of 190,080 tensors"
        note = f"{usage.wall:.0f} s, {item.size / 1e6:.0f} MB"
        report.checks.append(Check(what, usage.rss / 1e6, MEMORY_MB, " MB", note=note))
    for what, usages in opened.items():
        peak = max(usage.rss for usage in usages) / 1e6
        seconds = median(usage.wall for usage in usages)
        note = f"peak {peak:.0f} MB; the file has {manifest / 1e6:.1f} MB"
        report.checks.append(Check(what, seconds, OPEN_SECONDS, " s", note=note))
    report.raw["tensors"] = {"in": into, "out": out, "opened": opened}
