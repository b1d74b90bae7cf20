"""Ratio and rates, in and out, of every tool on the same files in one run."""

from __future__ import annotations

import hashlib
import time
from statistics import median
from typing import TYPE_CHECKING, Final, NamedTuple

import data
from measure import FailedError, Usage, scratch, typical
from measure import run as measured
from table import Check
from tools import FAST, LMZIP, NORMAL, PEER_TOOLS, install_peers

if TYPE_CHECKING:
    from table import Report
    from tools import Tool

RATIOS: Final = {"minilm-bf16": 0.663, "minilm-f32": 0.819, "whisper-f16": 0.854}
LARGE_RATIOS: Final = {FAST.name: 0.667, NORMAL.name: 0.6625}
LARGE: Final = {False: "dense-2gb", True: "dense-0.2gb"}
MAIN: Final = (FAST, LMZIP, NORMAL)
NAMES: Final = [
    "tool", "ratio", "in MB/s", "in MB/s of CPU", "in peak MB",
    "out MB/s", "out MB/s of CPU", "out peak MB",
]  # fmt: skip


class Target(NamedTuple):
    """A rate that is to be reached, as a multiple of lmzip's on the same files, by processor time."""

    tool: Tool
    way: str
    what: str
    least: float


TARGETS: Final = (
    Target(FAST, "into", "ingest", 0.75),
    Target(NORMAL, "into", "ingest", 0.65),
    Target(FAST, "out", "restore", 1.95),
    Target(NORMAL, "out", "restore", 1.6),
    Target(FAST, "quick", "restore --check segments", 2.6),
    Target(NORMAL, "quick", "restore --check segments", 2.0),
)
"""Of the large model: on small ones start-up is most of the time."""


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
            _expect_back(tool, item, work / "back")
            self.quick: Usage | None = None
            if tool.unhashed is not None:
                self.quick = measured(tool.unhashed(item, work), env)
                _expect_back(tool, item, work / "quick")


def _expect_back(tool: Tool, item: data.Input, back: data.Path) -> None:
    restored = [path for path in back.rglob(item.file.name) if path.is_file()]
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
        rounds, sha256 = _rounds(item, repeats=7 if large else 3, large=large)
        _tabulate(report, item, rounds, sha256)
        _judge(report, name, rounds, large=large)


def _rounds(
    item: data.Input, *, repeats: int, large: bool
) -> tuple[dict[str, list[Round]], list[float]]:
    """Interleaved: each repeat runs every tool, so that a slow spell hits all of them.

    Return what they did, and the CPU seconds of one SHA-256 over the same file, once each repeat.
    """
    rounds: dict[str, list[Round]] = {}
    sha256: list[float] = []
    for repeat in range(repeats):
        peers = PEER_TOOLS if repeat == 0 or not large else ()
        for tool in (*MAIN, *peers):
            if not tool.missing():
                rounds.setdefault(tool.name, []).append(Round(tool, item))
        sha256.append(_sha256_seconds(item))
    return rounds, sha256


def _sha256_seconds(item: data.Input) -> float:
    """Return the processor seconds of hashing alone: the yardstick where machines differ."""
    hasher, buffer, seconds = hashlib.sha256(), bytearray(4 << 20), 0.0
    with item.file.open("rb", buffering=0) as file:
        while size := file.readinto(buffer):
            begin = time.process_time()
            hasher.update(memoryview(buffer)[:size])
            seconds += time.process_time() - begin
    return seconds


def _tabulate(
    report: Report, item: data.Input, rounds: dict[str, list[Round]], sha256: list[float]
) -> None:
    rows = []
    for name, results in rounds.items():
        into, out = (
            typical([getattr(result, way) for result in results]) for way in ("into", "out")
        )
        ratio = results[-1].stored / item.size
        rows.append([name, f"{ratio:.4f}", *_cells(item, into), *_cells(item, out)])
        quick = [result.quick for result in results if result.quick is not None]
        if quick:
            cells = _cells(item, typical(quick))
            rows.append([f"{name}, --check segments", "", "", "", "", *cells])
    report.tables.append((f"{item.name}, {item.size / 1e6:.0f} MB", NAMES, rows))
    hashing = median(sha256) / item.file.stat().st_size * 1e9
    report.tables.append(
        (
            f"{item.name}: CPU seconds a GB, and as multiples of one SHA-256 ({hashing:.2f})",
            ["tool", "in", "x", "out", "x", "out, segments", "x"],
            [_costs(name, results, item, hashing) for name, results in rounds.items()],
        )
    )
    report.raw[f"codec {item.name}"] = {
        "sha256": sha256,
        **{
            name: [
                {
                    "stored": result.stored,
                    "in": result.into,
                    "out": result.out,
                    "segments": result.quick,
                }
                for result in results
            ]
            for name, results in rounds.items()
        },
    }


def _costs(name: str, results: list[Round], item: data.Input, hashing: float) -> list[str]:
    cells = [name]
    for way in ("into", "out", "quick"):
        usages = [usage for result in results if (usage := getattr(result, way)) is not None]
        if usages:
            cost = typical(usages).cpu / item.size * 1e9
            cells += [f"{cost:.2f}", f"{cost / hashing:.1f}"]
        else:
            cells += ["", ""]
    return cells


def _cells(item: data.Input, usage: Usage) -> list[str]:
    rates = (item.size / 1e6 / seconds for seconds in (usage.wall, usage.cpu))
    return [*(f"{rate:.0f}" for rate in rates), f"{usage.rss / 1e6:.0f}"]


def _judge(report: Report, name: str, rounds: dict[str, list[Round]], *, large: bool) -> None:
    limits = LARGE_RATIOS if large else {NORMAL.name: RATIOS[name]} if name in RATIOS else {}
    for tool, limit in limits.items():
        stored = rounds[tool][-1].stored / data.get(name).size
        report.checks.append(Check(f"ratio of {name} at {tool.split()[1]}", stored, limit))
    if not large or LMZIP.name not in rounds:
        return
    for target in TARGETS:
        ours = [getattr(result, target.way) for result in rounds[target.tool.name]]
        way = "into" if target.way == "into" else "out"
        theirs = [getattr(result, way) for result in rounds[LMZIP.name]]
        pairs = list(zip(ours, theirs, strict=True))
        cpu = sorted(peer.cpu / own.cpu for own, peer in pairs)
        wall = median(peer.wall / own.wall for own, peer in pairs)
        what = f"{target.what} of {name} at {target.tool.name.split()[1]}, rate by lmzip's, by CPU"
        note = f"{cpu[0]:.2f} to {cpu[-1]:.2f}; by wall time {wall:.2f}"
        report.checks.append(Check(what, median(cpu), target.least, "x", at_least=True, note=note))
