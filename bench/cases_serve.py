"""The archive as a hub: its rate beside ``restore``, parts of files, and downloads by a hub's client."""

from __future__ import annotations

import http.client
import os
import random
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import data
from cases_mirror import GIGABIT, download, hub
from measure import run as measured
from measure import scratch
from table import Check
from tools import ARCHIVER, OLAH, init_archive, install_olah

if TYPE_CHECKING:
    from collections.abc import Iterator

    from measure import Usage
    from table import Report

INPUTS = {False: "hub-2gb", True: "hub-0.2gb"}
PART = 1 << 20
PARTS = {False: 60, True: 8}
PIECE = 1 << 20
NAMES = ["what", "MB/s", "CPU s"]


class Server(NamedTuple):
    """A running ``archiver serve``."""

    endpoint: str
    process: subprocess.Popen[str]

    @property
    def cpu(self) -> float:
        """Seconds of processor that it took so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def peak(self) -> int:
        """The most bytes that it had in memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (peak,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
        return int(peak) * 1024


def run(report: Report, *, small: bool) -> None:
    """Measure one archive, at effort normal."""
    item = data.get(INPUTS[small])
    data.touch(item)
    with scratch() as work:
        init_archive(work)
        place = ["-q", "-C", str(work / "store")]
        name = f"bench/{item.name}"
        measured([ARCHIVER, "import", *place, str(item.folder), "--as", name])
        _streams(report, item, work, 2 if small else 3)
        _parts(report, item, work, PARTS[small])
        _downloads(report, item, work, 1 if small else 2)


@contextmanager
def served(work: Path) -> Iterator[Server]:
    """Serve the archive in a process of its own, whose cache is empty."""
    command = [ARCHIVER, "serve", "-C", str(work / "store"), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield Server(process.stdout.readline().strip(), process)
    finally:
        process.terminate()
        process.wait()


def _streams(report: Report, item: data.Input, work: Path, rounds: int) -> None:
    """Compare one stream of each file with a restore that has the same proof, and with the usual one."""
    ways = {"restore, segments": ["--check", "segments"], "restore": []}
    done: dict[str, list[tuple[float, float]]] = {what: [] for what in (*ways, "serve, one stream")}
    peaks = []
    for number in range(rounds):
        for what, options in ways.items():
            back = str(work / f"back-{number}-{len(options)}")
            place = ["-q", "-C", str(work / "store")]
            words = [ARCHIVER, "restore", *place, f"bench/{item.name}", back, *options]
            usage = measured(words)
            subprocess.run(["rm", "-r", back], check=True)
            done[what].append((usage.wall, usage.cpu))
        with served(work) as server:
            before, begin = server.cpu, time.perf_counter()
            for path in item.folder.iterdir():
                assert _fetch(server, item, path.name) == path.stat().st_size
            done["serve, one stream"].append((time.perf_counter() - begin, server.cpu - before))
            peaks.append(server.peak)
    rows = [
        [
            what,
            f"{item.size / 1e6 / median(wall for wall, _ in runs):.0f}",
            f"{median(cpu for _, cpu in runs):.1f}",
        ]
        for what, runs in done.items()
    ]
    report.tables.append((f"Serving {item.name}, {item.size / 1e6:.0f} MB", NAMES, rows))
    for what in ways:
        for figure, by in enumerate(("wall", "CPU")):
            ratios = sorted(
                theirs[figure] / ours[figure]
                for theirs, ours in zip(done[what], done["serve, one stream"], strict=True)
            )
            note = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
            name = f"serve, rate of one stream by that of {what}, by {by}"
            report.checks.append(Check(name, median(ratios), 0.7, "x", at_least=True, note=note))
    peak = Check("serve, memory after one stream", max(peaks) / 1e6, 656, " MB")
    report.checks.append(peak)
    report.raw["serve streams"] = done


def _fetch(server: Server, item: data.Input, path: str) -> int:
    """Take a whole file and keep nothing; return its size."""
    connection = http.client.HTTPConnection(urlsplit(server.endpoint).netloc)
    connection.request("GET", f"/bench/{item.name}/resolve/main/{path}")
    answer = connection.getresponse()
    assert answer.status == 200
    buffer, size = memoryview(bytearray(PIECE)), 0
    while count := answer.readinto(buffer):
        size += count
    connection.close()
    return size


def _parts(report: Report, item: data.Input, work: Path, count: int) -> None:
    """Ask for parts of 1 MiB anywhere in the largest file, each twice, on one connection."""
    chance, size = random.Random(1), item.file.stat().st_size
    plain = item.file.open("rb")
    times: dict[str, list[float]] = {"cold": [], "cached": []}
    with served(work) as server, plain:
        connection = http.client.HTTPConnection(urlsplit(server.endpoint).netloc)

        def ask(begin: int) -> tuple[bytes, float]:
            started = time.perf_counter()
            connection.request(
                "GET",
                f"/bench/{item.name}/resolve/main/{item.file.name}",
                headers={"Range": f"bytes={begin}-{begin + PART - 1}"},
            )
            part = connection.getresponse().read()
            return part, time.perf_counter() - started

        ask(0)  # opens the snapshot
        for _ in range(count):
            begin = chance.randrange(size - PART)
            plain.seek(begin)
            right = plain.read(PART)
            for seconds in times.values():
                part, took = ask(begin)
                assert part == right
                seconds.append(took)
    for what, limit in (("cold", 60), ("cached", 5)):
        ordered = sorted(times[what])
        note = f"{ordered[0] * 1e3:.1f} to {ordered[-1] * 1e3:.1f}, {count} parts"
        name = f"serve, 1 MiB anywhere, {what}"
        report.checks.append(Check(name, median(ordered) * 1e3, limit, " ms", note=note))
    report.raw["serve parts"] = times


@contextmanager
def shaped(endpoint: str, rate: int) -> Iterator[str]:
    """Another address of a server, over a link of so many bytes a second."""
    script = str(Path(__file__).with_name("shaped_link.py"))
    process = subprocess.Popen(
        [sys.executable, script, str(urlsplit(endpoint).port), str(rate)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.stdin.close()
        process.wait()


@contextmanager
def olah(plain: str, work: Path) -> Iterator[str]:
    """A mirror by olah of a hub; its address. What was asked for once lies there as plain files."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    behind, own = urlsplit(plain).netloc, f"127.0.0.1:{port}"
    command = [str(OLAH / "bin" / "olah-cli"), "--host", "127.0.0.1", "--port", str(port)]
    for name, address in (("hf", behind), ("mirror", own)):
        command += [f"--{name}-scheme", "http"]
        command += [f"--{name}-netloc", address, f"--{name}-lfs-netloc", address]
    command += ["--repos-path", str(work / "olah"), "--log-path", str(work / "olah-log")]
    process = subprocess.Popen(
        command,
        cwd=work,
        env=os.environ | {"HOME": str(work)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(300):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.1)
        yield f"http://{own}"
    finally:
        process.terminate()
        process.wait()


def _downloads(report: Report, item: data.Input, work: Path, rounds: int) -> None:
    """Download by the hub's own client: from ``serve``, from a hub of plain files, and from olah."""
    done: dict[str, list[Usage]] = {}
    with ExitStack() as running:
        endpoints = {"serve": running.enter_context(served(work)).endpoint}
        endpoints["a hub of plain files"] = plain = running.enter_context(hub(item))
        if install_olah():
            endpoints["olah"] = mirror = running.enter_context(olah(plain, work))
            download(item, mirror)  # it keeps what it passes on
        links = {
            what: running.enter_context(shaped(endpoint, GIGABIT))
            for what, endpoint in endpoints.items()
        }
        for number in range(rounds):
            for what, link in links.items():
                if what != "olah" or not number:  # it takes minutes
                    done.setdefault(what, []).append(download(item, link))
    ours = done["serve"]
    for what, theirs in done.items():
        if theirs is not ours:
            ratios = sorted(a.wall / b.wall for a, b in zip(ours, theirs, strict=False))
            note = f"{ratios[0]:.2f} to {ratios[-1]:.2f}; {item.size / 1e6:.0f} MB"
            name = f"hf download from serve over 1 Gbit/s, time by that from {what}"
            report.checks.append(Check(name, median(ratios), 1.2, "x", note=note))
    if "olah" not in done:
        report.notes.append("olah is not installed: it is not compared.")
    rows = [
        [what, f"{median(usage.wall for usage in usages):.1f}"] for what, usages in done.items()
    ]
    title = f"hf download of {item.name}, {item.size / 1e6:.0f} MB, over 1 Gbit/s"
    report.tables.append((title, ["from", "s"], rows))
    report.raw["serve downloads"] = done
