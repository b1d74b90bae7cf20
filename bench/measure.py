"""Runs one command and says what it cost: wall time, processor time, peak memory."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


class Usage(NamedTuple):
    """Seconds of wall and of processor (user and system, of the process and all it waited for).

    ``rss`` is the peak in bytes of the largest process.
    """

    wall: float
    cpu: float
    rss: int


class FailedError(Exception):
    """A command ended with an error."""


def run(command: Sequence[str], env: Mapping[str, str] | None = None) -> Usage:
    """Run ``command`` to its end; FailedError with the end of its output if it fails."""
    with tempfile.TemporaryFile() as output:
        begin = time.perf_counter()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=_environment() | (env or {}),
        )
        _, status, spent = os.wait4(process.pid, 0)
        wall = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            tail = output.read()[-2000:].decode(errors="replace")
            raise FailedError(f"{' '.join(command)}: exit {process.returncode}\n{tail}")
    return Usage(wall, spent.ru_utime + spent.ru_stime, spent.ru_maxrss * 1024)


def _environment() -> dict[str, str]:
    """This process's own, but for what forbids Python to keep what it compiled.

    Programs that are installed have their modules compiled; where that is forbidden, as it is in some
    containers, each start would compile a hundred of them anew.
    """
    return {name: text for name, text in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def typical(usages: Sequence[Usage]) -> Usage:
    """The median of each figure; the greatest peak."""
    return Usage(
        median(usage.wall for usage in usages),
        median(usage.cpu for usage in usages),
        max(usage.rss for usage in usages),
    )


def tree_size(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


@contextmanager
def scratch() -> Iterator[Path]:
    """An empty folder on the disk of the inputs, gone afterwards."""
    from data import cache_folder

    folder = Path(tempfile.mkdtemp(prefix="run-", dir=cache_folder()))
    try:
        yield folder
    finally:
        _writable(folder)
        shutil.rmtree(folder)


def _writable(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_dir():
            path.chmod(0o755)
