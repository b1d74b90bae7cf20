"""How a night went."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from archiver.night.facts import News
from archiver.night.result import StepResult

Cut = Literal["", "window", "stopped", "outside"]
"""Why a night ended before its end: its window did, somebody stopped it, or it was not its time."""


class NightReport(msgspec.Struct, frozen=True):
    """How a night went.

    ``event`` is the id of its summary in the journal; ``""`` if nothing was done and nothing is news, or
    it could not be written. ``seconds`` is how long it took. ``opens`` is when the plan's window opens
    next, by the clock of its ``timezone``, of a night that was not its time.
    """

    plan: str
    exit_code: int
    cut: Cut
    steps: tuple[StepResult, ...]
    news: News
    seconds: int
    event: str = ""
    opens: datetime | None = None
    timezone: str = ""
