"""A smoke test of a model of 2 GB: streamed within a third of its size, and beside plain transformers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import data
from measure import Usage, scratch, typical
from measure import run as measured
from table import Check
from tools import ARCHIVER, NORMAL

if TYPE_CHECKING:
    from table import Report

INPUTS = {False: ("moe-2gb", "hub-2.1gb"), True: ("hub-0.2gb",)}
REPEATS = 3
FROM_PRETRAINED = str(Path(__file__).with_name("from_pretrained.py"))
SHARE = 3
"""The peak of a streamed run is to stay below the model's size by this."""
BUDGET = 640_000_000
"""Bytes that a streamed run may use: less than a third of 2 GB."""


def run(report: Report, *, small: bool) -> None:
    """Measure each model."""
    for name in INPUTS[small]:
        item = data.get(name)
        data.touch(item)
        with scratch() as work:
            NORMAL.prepare(work)
            measured(NORMAL.commands(item, work)[0], NORMAL.env(work))
            rounds = _rounds(item, work)
        _tabulate(report, item, rounds)
        _judge(report, item, rounds, small=small)


def _rounds(item: data.Input, work: Path) -> dict[str, list[Usage]]:
    """Interleaved, so that a slow spell hits all of them."""
    env = NORMAL.env(work)
    test = [ARCHIVER, "smoke-test", "-q", "-C", str(work / "store"), f"bench/{item.name}"]
    budget = ["--memory", str(BUDGET)]
    commands = {
        "smoke-test --level forward": [*test, "--level", "forward"],
        "smoke-test": [*test, "--level", "generate"],
        "smoke-test --level forward, streamed": [*test, "--level", "forward", *budget],
        "smoke-test, streamed": [*test, "--level", "generate", *budget],
        "from_pretrained and forward, restored": [
            sys.executable,
            FROM_PRETRAINED,
            str(item.folder),
        ],
        "import of torch and transformers": [sys.executable, "-c", _NOTHING],
    }
    usages: dict[str, list[Usage]] = {}
    for _ in range(REPEATS):
        for name, command in commands.items():
            usages.setdefault(name, []).append(measured(command, env))
    return usages


_NOTHING = "import torch, transformers; transformers.Qwen3_5ForConditionalGeneration"


def _tabulate(report: Report, item: data.Input, rounds: dict[str, list[Usage]]) -> None:
    rows = []
    for name, usages in rounds.items():
        usage = typical(usages)
        rows.append([name, f"{usage.wall:.1f}", f"{usage.cpu:.1f}", f"{usage.rss / 1e6:.0f}"])
    names = ["what", "seconds", "seconds of CPU", "peak MB"]
    report.tables.append((f"smoke test of {item.name}, {item.size / 1e6:.0f} MB", names, rows))
    report.raw[f"smoke {item.name}"] = rounds


def _judge(
    report: Report, item: data.Input, rounds: dict[str, list[Usage]], *, small: bool
) -> None:
    peaks = [usage.rss for name, usages in rounds.items() if "streamed" in name for usage in usages]
    what = f"peak of a streamed smoke test of {item.name}, by its size"
    limit = 1 / SHARE if not small else 10.0
    note = f"{max(peaks) / 1e6:.0f} MB"
    report.checks.append(Check(what, max(peaks) / item.size, limit, "x", note=note))
    ours, theirs = (
        typical(rounds[name])
        for name in ("smoke-test --level forward", "from_pretrained and forward, restored")
    )
    what = f"smoke test of {item.name} from the archive, by transformers on restored files"
    report.checks.append(Check(what, ours.wall / theirs.wall, 2.0, "x"))
