"""Progress on stderr: a live line on a terminal, one plain line per file otherwise."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING, Self

from archiver.cli import output
from archiver.progress import Progress
from archiver.text import human_bytes, human_rate, printable

if TYPE_CHECKING:
    from types import TracebackType

    from rich.progress import Progress as Live

_PER_SECOND = 5
_WIDE = 100
"""Columns that everything needs; with fewer, percent, bytes and rate are shown."""


class Meter(Progress):
    """Counts files and bytes of a run and shows them. Use as a context manager; threads may share it.

    Args:
        verb: What is being done, such as ``Mirroring``.
        unit: What is counted beside the bytes.
    """

    _line_per_file = True

    def __init__(self, verb: str, unit: str = "files") -> None:
        self._verb = verb
        self._unit = unit
        self._lock = threading.Lock()
        self._started = time.monotonic()
        self._live = _live(verb) if sys.stderr.isatty() and not output.is_quiet() else None
        self._narrow = self._live is not None and self._live.console.width < _WIDE
        self._files = self._files_total = 0
        self._bytes = self._came = self._plain = self._stored = 0
        self.fetched = 0
        """Plain bytes that came in all phases, also of files that failed."""

    @property
    def stored_bytes(self) -> int:
        """Return how many bytes were written to packs."""
        return self._stored

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live:
            self._live.stop()

    def phase(self, verb: str) -> None:
        """Begin another part of the work; it is counted from nothing."""
        with self._lock:
            self._verb = verb
            self._started = time.monotonic()
            self._files = self._files_total = self._bytes = self._came = 0
            if self._live:
                task = self._live.task_ids[0]
                self._live.reset(task, description=verb, completed=0, total=None, facts="")

    def expect(self, files: int, size: int) -> None:
        """Note how many files and bytes there will be."""
        self._files_total = files
        if self._live:
            self._live.update(self._live.task_ids[0], total=size)

    def advance(self, count: int, *, fetched: bool) -> None:
        """Count bytes that are done; those that were there already say nothing of the speed."""
        with self._lock:
            self._came += count if fetched else 0
            self.fetched += count if fetched else 0
        self._add(count)

    def rewind(self, count: int) -> None:
        """Take back bytes of a file that is read once more."""
        self._add(-count)

    def stored(self, plain: int, stored: int) -> None:
        """Count bytes that were written, for the ratio."""
        with self._lock:
            self._plain += plain
            self._stored += stored

    def end(self, path: str) -> None:
        """Count a file that is complete."""
        with self._lock:
            self._files += 1
        if self._live is None and self._line_per_file:
            output.remark(f"{self._verb} {printable(path)}: done")
        self._add(0)

    def _add(self, count: int) -> None:
        with self._lock:
            self._bytes += count
            if self._live:
                task = self._live.task_ids[0]
                self._live.update(task, completed=self._bytes, facts=self._facts())

    def _facts(self) -> str:
        """Return files, bytes, rate and ratio so far."""
        rate = human_rate(self._came, time.monotonic() - self._started)
        parts = [human_bytes(self._bytes), rate]
        if self._narrow:
            return " · ".join(parts)
        parts.insert(0, f"{self._files}/{self._files_total} {self._unit}")
        if self._plain:
            parts.append(f"ratio {self._stored / self._plain:.3f}")
        return " · ".join(parts)


class IndexMeter(Meter):
    """Shows that the catalogue is written anew; as long as it is not, nothing is shown.

    On a terminal a live line, else a line for each kind of record: there may be thousands of packs.
    """

    _line_per_file = False

    def __init__(self) -> None:
        super().__init__("Indexing", "records")
        self._begun = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._begun:
            super().__exit__(kind, value, trace)

    def phase(self, verb: str) -> None:
        """Begin with another kind of record."""
        if self._live and not self._begun:
            self._live.start()
        self._begun = True
        super().phase(verb)
        if self._live is None:
            output.remark(f"{verb} …")


def _live(verb: str) -> Live:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        ProgressColumn,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    columns: list[ProgressColumn] = [TaskProgressColumn(), TextColumn("{task.fields[facts]}")]
    if console.width >= _WIDE:
        columns[:0] = [TextColumn("{task.description}"), BarColumn()]
        columns.append(TimeRemainingColumn())
    live = Progress(
        *columns,
        console=console,
        refresh_per_second=_PER_SECOND,
        transient=True,
        redirect_stdout=sys.stdout.isatty(),  # else results would go where the live line goes
    )
    live.add_task(verb, total=None, facts="")
    return live
