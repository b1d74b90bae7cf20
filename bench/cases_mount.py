"""What a file costs that is read from a mounted archive, beside a restore of it."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from contextlib import contextmanager
from statistics import median
from typing import TYPE_CHECKING

import data
from measure import Usage, scratch, typical
from measure import run as measured
from table import Check
from tools import ARCHIVER, NORMAL

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from table import Report

INPUTS = {False: "dense-2gb", True: "hub-0.2gb"}
REPEATS = {False: 5, True: 3}
MIB = 1 << 20
PLACES = 50


def run(report: Report, *, small: bool) -> None:
    """Measure one archive; each time it is mounted anew, so that nothing is in the page cache of it."""
    item = data.get(INPUTS[small])
    data.touch(item)
    usages: dict[str, list[Usage]] = {}
    seconds: dict[str, list[float]] = {"restore": [], "front to back": [], "again": []}
    random_reads: list[float] = []
    with scratch() as work:
        NORMAL.prepare(work)
        measured(NORMAL.commands(item, work)[0], NORMAL.env(work))
        (work / "m").mkdir()
        for number in range(REPEATS[small]):
            place, back = ["-q", "-C", str(work / "store")], work / "back" / str(number)
            command = [ARCHIVER, "restore", *place, f"bench/{item.name}", str(back)]
            usages.setdefault("restore", []).append(measured(command, NORMAL.env(work)))
            seconds["restore"].append(usages["restore"][-1].wall)
            with mounted(work, usages.setdefault("mount, read once and again", [])):
                folder = work / "m" / f"bench/{item.name}/main"
                seconds["front to back"].append(read_all(folder))
                seconds["again"].append(read_all(folder))
            with mounted(work, usages.setdefault(f"mount, {PLACES} cold places", [])):
                random_reads += read_places(folder, number)
    _tabulate(report, item, usages, seconds, random_reads)


@contextmanager
def mounted(work: Path, usages: list[Usage]) -> Iterator[None]:
    """Mount the archive as long as the block runs; what the process cost is added to ``usages``."""
    command = [ARCHIVER, "mount", "-C", str(work / "store"), str(work / "m")]
    begin = time.perf_counter()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, env=os.environ | NORMAL.env(work)
    ) as process:
        assert process.stdout
        process.stdout.readline()
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            _, status, spent = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - begin
    usages.append(Usage(wall, spent.ru_utime + spent.ru_stime, spent.ru_maxrss * 1024))


def read_all(folder: Path) -> float:
    """Read every file from front to back, one after the other; return the seconds."""
    begin = time.perf_counter()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb", buffering=0) as file:
                while file.read(MIB):
                    pass
    return time.perf_counter() - begin


def read_places(folder: Path, seed: int) -> list[float]:
    """Read 1 MiB at places of the largest file, by chance; return the seconds of each."""
    chance = random.Random(seed)
    path = max(folder.rglob("*"), key=lambda each: each.stat().st_size)
    times = []
    with path.open("rb", buffering=0) as file:
        size = path.stat().st_size
        for _ in range(PLACES):
            begin = time.perf_counter()
            os.pread(file.fileno(), MIB, chance.randrange(size - MIB))
            times.append(time.perf_counter() - begin)
    return times


def _tabulate(
    report: Report,
    item: data.Input,
    usages: dict[str, list[Usage]],
    seconds: dict[str, list[float]],
    random_reads: list[float],
) -> None:
    size = item.size / 1e6
    rows = [
        [name, f"{median(times):.2f}", f"{size / median(times):.0f}"]
        for name, times in seconds.items()
    ]
    report.tables.append((f"reading {item.name}, {size:.0f} MB", ["what", "seconds", "MB/s"], rows))
    rows = [
        [name, f"{usage.cpu:.2f}", f"{usage.rss / 1e6:.0f}"]
        for name, usage in ((name, typical(each)) for name, each in usages.items())
    ]
    report.tables.append(("whole processes", ["what", "CPU seconds", "peak MB"], rows))
    times = sorted(random_reads)
    share = [times[len(times) * percent // 100] * 1e3 for percent in (50, 90, 99)]
    row = ["1 MiB at a cold place, ms", *(f"{each:.1f}" for each in share)]
    report.tables.append(("random reads", ["what", "median", "90 %", "99 %"], [row]))
    ratios = sorted(
        a / b for a, b in zip(seconds["restore"], seconds["front to back"], strict=True)
    )
    cpu = median(
        a.cpu / b.cpu
        for a, b in zip(usages["restore"], usages["mount, read once and again"], strict=True)
    )
    note = f"{ratios[0]:.2f} to {ratios[-1]:.2f}; by CPU {cpu:.2f}"
    what = "front to back from a mount, rate by that of restore"
    report.checks.append(Check(what, median(ratios), 0.8, "x", at_least=True, note=note))
    report.raw[f"mount {item.name}"] = {
        "usages": usages,
        "seconds": seconds,
        "random": random_reads,
    }
