"""Progress on stderr: a live line on a terminal, one plain line per file otherwise."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING, Self

from archiver.cli import output
from archiver.text import human_bytes, human_duration, human_rate, printable

if TYPE_CHECKING:
    from types import TracebackType

_INTERVAL = 0.2


class Meter:
    """Counts files and bytes of a run and shows them. Use as a context manager; threads may share it.

    Args:
        verb: What is being done, such as ``Mirroring``.
        stored: Gives the bytes stored so far, for the ratio; None where nothing is stored.
    """

    def __init__(self, verb: str) -> None:
        self._verb = verb
        self._live = sys.stderr.isatty() and not output.is_quiet()
        self._lock = threading.Lock()
        self._started = time.monotonic()
        self._shown = 0.0
        self.files = self.files_total = 0
        self.bytes = self.bytes_total = self.fetched = 0
        self.stored = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live and self._shown:
            sys.stderr.write("\r\x1b[K")

    def expect(self, files: int, size: int) -> None:
        """How many files and bytes there will be."""
        self.files_total, self.bytes_total = files, size

    def begin(self, path: str, size: int) -> None:
        """A file begins."""
        del path, size

    def advance(self, count: int, *, fetched: bool) -> None:
        """Bytes came."""
        with self._lock:
            self.bytes += count
            self.fetched += count if fetched else 0
        self._show()

    def rewind(self, count: int) -> None:
        """A file is read again from its beginning."""
        with self._lock:
            self.bytes -= count

    def end(self, path: str) -> None:
        """A file is complete."""
        with self._lock:
            self.files += 1
        if not self._live:
            output.remark(f"{self._verb} {printable(path)}: done")
        self._show()

    def _show(self) -> None:
        now = time.monotonic()
        if not self._live or now - self._shown < _INTERVAL:
            return
        self._shown = now
        sys.stderr.write(f"\r\x1b[K{self.text(now)}")
        sys.stderr.flush()

    def text(self, now: float) -> str:
        """The live line."""
        elapsed = max(now - self._started, 1e-6)
        rate = self.bytes / elapsed
        parts = [
            f"{self._verb} {self.files}/{self.files_total} files",
            f"{human_bytes(self.bytes)} of {human_bytes(self.bytes_total)}",
            human_rate(rate),
        ]
        if self.stored and self.bytes:
            parts.append(f"ratio {self.stored / self.bytes:.3f}")
        if rate > 0 and self.bytes_total > self.bytes:
            parts.append(f"{human_duration((self.bytes_total - self.bytes) / rate)} left")
        return " · ".join(parts)
