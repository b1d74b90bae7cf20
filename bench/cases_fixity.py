"""How fast an archive is proven: audits beside restore and beside plain BLAKE3, and parity."""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import data
from measure import Usage, scratch, tree_size, typical
from measure import run as measured
from table import Check
from tools import ARCHIVER, NORMAL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from table import Report

INPUTS = {False: "memory-4gb", True: "hub-0.2gb"}
REPEATS = 5
BLAKE3_FILES = str(Path(__file__).with_name("blake3_files.py"))


def run(report: Report, *, small: bool) -> None:
    """Measure one archive."""
    item = data.get(INPUTS[small])
    data.touch(item)
    with scratch() as work:
        NORMAL.prepare(work)
        measured(NORMAL.commands(item, work)[0], NORMAL.env(work))
        packs = tree_size(work / "store" / "packs")
        rounds = _rounds(item, work)
    rates = {name: (item.size if name in PLAIN else packs) / 1e6 for name in rounds}
    _tabulate(report, item, rounds, rates)
    _judge(report, rounds, rates)


PLAIN = ("restore", "audit --level content", "audit --level files")
"""What is rated by plain bytes; the others by the bytes of packs."""


IDLE = ("audit of nothing", "blake3 of nothing")
"""Start-up: the same programs on an empty archive and an empty folder."""


def _rounds(item: data.Input, work: Path) -> dict[str, list[Usage]]:
    """Interleaved, so that a slow spell hits all of them."""
    usages: dict[str, list[Usage]] = {}
    place, env = ["-q", "-C", str(work / "store")], NORMAL.env(work)
    (work / "nothing").mkdir()
    measured([ARCHIVER, "-q", "init", "-C", str(work / "empty")], env)
    for number in range(REPEATS):
        back = work / "back" / str(number)
        commands = {
            "restore": [ARCHIVER, "restore", *place, f"bench/{item.name}", str(back)],
            **{
                f"audit --level {level}": [ARCHIVER, "audit", *place, "--level", level]
                for level in ("structure", "stored", "content", "files")
            },
            "blake3 of the packs": [sys.executable, BLAKE3_FILES, str(work / "store" / "packs")],
            "audit of nothing": [ARCHIVER, "audit", "-q", "-C", str(work / "empty")],
            "blake3 of nothing": [sys.executable, BLAKE3_FILES, str(work / "nothing")],
            "parity add": [ARCHIVER, "parity", "add", *place, "--redo"],
        }
        for name, command in commands.items():
            usages.setdefault(name, []).append(measured(command, env))
    return usages


def _tabulate(
    report: Report, item: data.Input, rounds: dict[str, list[Usage]], sizes: dict[str, float]
) -> None:
    rows = []
    for name, usages in rounds.items():
        usage = typical(usages)
        size = 0.0 if name in IDLE else sizes[name]
        rates = [f"{size / seconds:.0f}" if size else "" for seconds in (usage.wall, usage.cpu)]
        rows.append([name, f"{usage.wall:.2f}", *rates, f"{usage.rss / 1e6:.0f}"])
    names = ["what", "seconds", "MB/s", "MB/s of CPU", "peak MB"]
    report.tables.append((f"proving {item.name}, {item.size / 1e6:.0f} MB plain", names, rows))
    report.raw[f"fixity {item.name}"] = rounds


def _judge(report: Report, rounds: dict[str, list[Usage]], sizes: dict[str, float]) -> None:
    content, restored = rounds["audit --level content"], rounds["restore"]
    _compare(report, "audit --level content, rate by that of restore", content, restored, 0.9)
    stored, plain = rounds["audit --level stored"], rounds["blake3 of the packs"]
    whole = _faster(stored, plain)
    _compare(
        report,
        "audit --level stored, rate by that of blake3, both without their start-up",
        *(_beyond(*pair) for pair in zip((stored, plain), map(rounds.get, IDLE), strict=True)),
        0.8,
        more=f"; whole processes {median(whole):.2f}",
    )
    rates = sorted(sizes["parity add"] / usage.wall for usage in rounds["parity add"])
    note = f"{rates[0]:.0f} to {rates[-1]:.0f}"
    check = Check("parity add", median(rates), 300, " MB/s", at_least=True, note=note)
    report.checks.append(check)


def _compare(
    report: Report,
    what: str,
    ours: Sequence[Usage],
    theirs: Sequence[Usage],
    limit: float,
    *,
    more: str = "",
) -> None:
    ratios = _faster(ours, theirs)
    cpu = median(b.cpu / a.cpu for a, b in zip(ours, theirs, strict=True))
    note = f"{ratios[0]:.2f} to {ratios[-1]:.2f}; by CPU {cpu:.2f}{more}"
    report.checks.append(Check(what, median(ratios), limit, "x", at_least=True, note=note))


def _beyond(usages: Sequence[Usage], idle: Sequence[Usage] | None) -> list[Usage]:
    """The same, less what the program takes to start."""
    start = typical(idle or ())
    return [Usage(usage.wall - start.wall, usage.cpu - start.cpu, usage.rss) for usage in usages]


def _faster(slow: Sequence[Usage], fast: Sequence[Usage]) -> list[float]:
    return sorted(b.wall / a.wall for a, b in zip(slow, fast, strict=True))
