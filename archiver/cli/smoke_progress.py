"""Progress of a smoke test: which level runs, how much it has read, and that it still reads."""

from __future__ import annotations

import time
from typing import Final

from archiver.cli import output
from archiver.cli.progress import Meter
from archiver.text import human_bytes, human_rate

_EVERY: Final = 60.0
"""Seconds between two lines of a log: one that stays out for long tells that the run is stuck."""


class SmokeMeter(Meter):
    """Shows bytes read in a level: live on a terminal, else a line about once a minute."""

    def __init__(self) -> None:
        super().__init__("Starting the smoke test", "tensors")
        self._told = self._started

    def phase(self, verb: str) -> None:
        """Another level begins."""
        self._told = time.monotonic()
        super().phase(verb)

    def advance(self, count: int, *, fetched: bool) -> None:
        """Bytes were read; all of them count for the rate."""
        super().advance(count, fetched=fetched or count > 0)
        now = time.monotonic()
        if self._live is None and now - self._told >= _EVERY:
            self._told = now
            output.remark(f"{self._verb}: {self._facts()}")

    def _facts(self) -> str:
        rate = self._came / max(time.monotonic() - self._started, 1e-6)
        facts = f"{human_bytes(self._bytes)} read so far, {human_rate(rate)}"
        return f"{self._verb}: {facts}" if self._narrow else facts
