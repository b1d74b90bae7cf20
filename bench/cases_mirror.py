"""Mirroring from a hub on the loopback, against ``hf download`` of the same files, in pairs.

And of one file over connections that the hub limits, each: with one, with several, and by ``curl``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
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
ONE_FILE = {False: "memory-4gb", True: "memory-0.5gb"}
EACH, ROUND_TRIP, CONNECTIONS = 25_000_000, 0.05, 8
"""Bytes a second of a connection, and seconds."""
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
                    (download(item, endpoint), mirror(item, endpoint, effort))
                    for _ in range(2 if small else 3)
                ]
                rows.append([link, effort, *_medians(pairs)])
                ratios = sorted(ours.wall / theirs.wall for theirs, ours in pairs)
                what = f"mirror at {effort} over {link}, time by hf download's"
                note = f"{ratios[0]:.2f} to {ratios[-1]:.2f}; {item.size / 1e6:.0f} MB"
                report.checks.append(Check(what, median(ratios), limit, "x", note=note))
                report.raw[f"mirror {link} {effort}"] = pairs
    report.tables.append((f"Mirroring {item.name}, {item.size / 1e6:.0f} MB", NAMES, rows))
    _several_connections(report, data.get(ONE_FILE[small]))


def _several_connections(report: Report, item: data.Input) -> None:
    """Measure one file over connections that are slow, each."""
    data.touch(item)
    with hub(item, connection_rate=EACH, delay=ROUND_TRIP) as endpoint:
        single = mirror(item, endpoint, "fast", "--connections", "1")
        several = [mirror(item, endpoint, "fast") for _ in range(2)]
        curl = min(_curl(item, endpoint) for _ in range(2)) if shutil.which("curl") else None
    best = min(usage.wall for usage in several)
    link = f"{EACH / 1e6:.0f} MB/s a connection"
    note = f"{item.size / 1e6:.0f} MB, {ROUND_TRIP * 1000:.0f} ms of round trip"
    what = f"mirror over {link}, speed by one connection's"
    report.checks.append(Check(what, single.wall / best, 5, "x", at_least=True, note=note))
    if curl is not None:
        what = f"mirror over {link}, time by that of {CONNECTIONS} ranges by curl"
        report.checks.append(Check(what, best / curl, 1.2, "x", note=note))
    report.raw["mirror connections"] = {"one": single, "several": several, "curl": curl}


def _curl(item: data.Input, endpoint: str) -> float:
    """Return the seconds that as many parallel ranges of the file take."""
    url = f"{endpoint}/bench/{item.name}/resolve/main/{item.file.name}"
    part = -(-item.file.stat().st_size // CONNECTIONS)
    with scratch() as work:
        begin = time.perf_counter()
        running = [
            subprocess.Popen(
                ["curl", "-sfL", "-r", f"{n * part}-{(n + 1) * part - 1}", "-o", work / str(n), url]
            )
            for n in range(CONNECTIONS)
        ]
        for process in running:
            assert process.wait() == 0
        return time.perf_counter() - begin


def _medians(pairs: list[tuple[Usage, Usage]]) -> list[str]:
    values = [median(pair[who][what] for pair in pairs) for what in (0, 1) for who in (0, 1)]
    return [f"{value:.1f}" for value in values]


@contextmanager
def hub(
    item: data.Input,
    rate: float | None = None,
    connection_rate: float | None = None,
    delay: float = 0.0,
) -> Iterator[str]:
    """A hub in a process of its own that serves the input as ``bench/<name>``; its endpoint."""
    with scratch() as folder:
        served = folder / "bench" / item.name
        served.mkdir(parents=True)
        for path in item.folder.iterdir():
            os.link(path, served / path.name)
        command = [sys.executable, "-m", "archiver.loopback", str(folder)]
        shaped = [] if rate is None else ["--rate", str(rate)]
        shaped += [] if connection_rate is None else ["--connection-rate", str(connection_rate)]
        shaped += ["--delay", str(delay)]
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


def download(item: data.Input, endpoint: str) -> Usage:
    """Return what it takes the hub's own client to download the input."""
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


def mirror(
    item: data.Input,
    endpoint: str,
    effort: str,
    *options: str,
    program: tuple[str, ...] = (ARCHIVER,),
) -> Usage:
    """Return what it takes to mirror the input into a new archive."""
    with scratch() as work:
        init_archive(work)
        command = [*program, "-q", "mirror", "-C", str(work / "store"), f"bench/{item.name}"]
        return measured([*command, "--effort", effort, *options], _env(work, endpoint))
