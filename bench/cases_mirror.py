"""Mirroring from a hub on the loopback, against ``hf download`` of the same files, in pairs."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from statistics import median
from typing import TYPE_CHECKING

import data
from measure import run as measured
from measure import scratch
from table import Check
from tools import ARCHIVER, HF, init_archive

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from measure import Usage
    from table import Report

GIGABIT = 125_000_000
INPUTS = {False: "hub-2gb", True: "hub-0.2gb"}
NAMES = ["link", "effort", "hf s", "mirror s", "hf CPU s", "mirror CPU s"]


def run(report: Report, *, small: bool) -> None:
    """Measure the shaped link and the plain one."""
    item = data.get(INPUTS[small])
    data.touch(item)
    rows = []
    for link, rate, efforts in (
        ("1 Gbit/s", GIGABIT, {"normal": 1.05}),
        ("loopback", None, {"fast": 1.5}),
    ):
        with hub(item, rate) as endpoint:
            for effort, limit in efforts.items():
                pairs = [
                    (_download(item, endpoint), _mirror(item, endpoint, effort))
                    for _ in range(2 if small else 3)
                ]
                rows.append([link, effort, *_medians(pairs)])
                ratios = sorted(ours.wall / theirs.wall for theirs, ours in pairs)
                what = f"mirror at {effort} over {link}, time by hf download's"
                note = f"{ratios[0]:.2f} to {ratios[-1]:.2f}; {item.size / 1e6:.0f} MB"
                report.checks.append(Check(what, median(ratios), limit, "x", note=note))
                report.raw[f"mirror {link} {effort}"] = pairs
    report.tables.append((f"Mirroring {item.name}, {item.size / 1e6:.0f} MB", NAMES, rows))


def _medians(pairs: list[tuple[Usage, Usage]]) -> list[str]:
    values = [median(pair[who][what] for pair in pairs) for what in (0, 1) for who in (0, 1)]
    return [f"{value:.1f}" for value in values]


@contextmanager
def hub(item: data.Input, rate: float | None) -> Iterator[str]:
    """A hub in a process of its own that serves the input as ``bench/<name>``; its endpoint."""
    with scratch() as folder:
        served = folder / "bench" / item.name
        served.mkdir(parents=True)
        for path in item.folder.iterdir():
            os.link(path, served / path.name)
        command = [sys.executable, "-m", "archiver.loopback", str(folder)]
        shaped = [] if rate is None else ["--rate", str(rate)]
        process = subprocess.Popen(
            [*command, *shaped], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()
            process.wait()


def _env(work: Path, endpoint: str) -> dict[str, str]:
    return {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(work / "hf"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }


def _download(item: data.Input, endpoint: str) -> Usage:
    with scratch() as work:
        command = [
            HF,
            "download",
            f"bench/{item.name}",
            "--quiet",
            "--local-dir",
            str(work / "got"),
        ]
        return measured(command, _env(work, endpoint))


def _mirror(item: data.Input, endpoint: str, effort: str) -> Usage:
    with scratch() as work:
        init_archive(work)
        command = [ARCHIVER, "-q", "mirror", "-C", str(work / "store"), f"bench/{item.name}"]
        return measured([*command, "--effort", effort], _env(work, endpoint))
