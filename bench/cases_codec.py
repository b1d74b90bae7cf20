"""Ratio and rates, in and out, of every tool on the same files in one run."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

import data
from measure import FailedError, Usage, scratch, typical
from measure import run as measured
from table import Check
from tools import FAST, LMZIP, NORMAL, PEER_TOOLS, install_peers

if TYPE_CHECKING:
    from table import Report
    from tools import Tool

RATIOS = {"minilm-bf16": 0.663, "minilm-f32": 0.819, "whisper-f16": 0.854}
RATES = ("minilm-f32", "minilm-bf16")
LARGE = {False: "dense-2gb", True: "dense-0.2gb"}
MAIN = (FAST, LMZIP, NORMAL)
NAMES = [
    "tool", "ratio", "in MB/s", "in MB/s of CPU", "in peak MB",
    "out MB/s", "out MB/s of CPU", "out peak MB",
]  # fmt: skip


class Round:
    """What one tool did with one input, once."""

    def __init__(self, tool: Tool, item: data.Input) -> None:
        with scratch() as work:
            (work / "back").mkdir()
            tool.prepare(work)
            keep, give = tool.commands(item, work)
            env = tool.env(work)
            self.into = measured(keep, env)
            self.stored = tool.stored(work)
            self.out = measured(give, env)
            _expect_back(tool, item, work)


def _expect_back(tool: Tool, item: data.Input, work: data.Path) -> None:
    restored = [path for path in (work / "back").rglob(item.file.name) if path.is_file()]
    if not restored or restored[0].stat().st_size != item.file.stat().st_size:
        raise FailedError(f"{tool.name} did not give {item.file.name} back.")


def run(report: Report, *, small: bool) -> None:
    """Measure all inputs."""
    install_peers()
    inputs = ("minilm-f32", "minilm-bf16", "whisper-f16", "whisper-bin", LARGE[small])
    absent = [tool.name for tool in PEER_TOOLS if tool.missing()]
    if absent:
        report.notes.append(f"Not installed here, so not compared: {', '.join(absent)}.")
    for name in inputs:
        item = data.get(name)
        data.touch(item)
        large = name == LARGE[small]
        rounds = _rounds(item, repeats=3, large=large)
        _tabulate(report, item, rounds)
        _judge(report, name, rounds, rates=large or name in RATES)


def _rounds(item: data.Input, *, repeats: int, large: bool) -> dict[str, list[Round]]:
    """Interleaved: each repeat runs every tool, so that a slow spell hits all of them."""
    rounds: dict[str, list[Round]] = {}
    for repeat in range(repeats):
        peers = PEER_TOOLS if repeat == 0 or not large else ()
        for tool in (*MAIN, *peers):
            if not tool.missing():
                rounds.setdefault(tool.name, []).append(Round(tool, item))
    return rounds


def _tabulate(report: Report, item: data.Input, rounds: dict[str, list[Round]]) -> None:
    rows = []
    for name, results in rounds.items():
        into, out = (
            typical([getattr(result, way) for result in results]) for way in ("into", "out")
        )
        ratio = results[-1].stored / item.size
        rows.append([name, f"{ratio:.4f}", *_cells(item, into), *_cells(item, out)])
    report.tables.append((f"{item.name}, {item.size / 1e6:.0f} MB", NAMES, rows))
    report.raw[f"codec {item.name}"] = {
        name: [
            {"stored": result.stored, "in": result.into, "out": result.out} for result in results
        ]
        for name, results in rounds.items()
    }


def _cells(item: data.Input, usage: Usage) -> list[str]:
    rates = (item.size / 1e6 / seconds for seconds in (usage.wall, usage.cpu))
    return [*(f"{rate:.0f}" for rate in rates), f"{usage.rss / 1e6:.0f}"]


def _judge(report: Report, name: str, rounds: dict[str, list[Round]], *, rates: bool) -> None:
    if name in RATIOS:
        stored = rounds[NORMAL.name][-1].stored / data.get(name).size
        report.checks.append(Check(f"ratio of {name} at normal", stored, RATIOS[name]))
    if not rates or LMZIP.name not in rounds:
        return
    for tool, way, limit in (
        (FAST, "into", 1.0), (NORMAL, "into", 0.6), (FAST, "out", 1.0), (NORMAL, "out", 1.0),
    ):  # fmt: skip
        pairs = list(zip(rounds[tool.name], rounds[LMZIP.name], strict=True))
        faster = sorted(getattr(b, way).wall / getattr(a, way).wall for a, b in pairs)
        cpu = median(getattr(b, way).cpu / getattr(a, way).cpu for a, b in pairs)
        verb = "ingest" if way == "into" else "restore"
        what = f"{verb} of {name} at {tool.name.split()[1]}, rate by lmzip's"
        note = f"{faster[0]:.2f} to {faster[-1]:.2f}; by CPU {cpu:.2f}"
        report.checks.append(Check(what, median(faster), limit, "x", at_least=True, note=note))
