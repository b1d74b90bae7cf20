"""What a smoke test is asked for, and what it comes to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from archiver.smoke.receipt import Run
from archiver.smoke.report import SmokeReport

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from archiver.smoke.levels import Level
    from archiver.smoke.model import Dtype
    from archiver.smoke.report import LevelReport


@dataclass(frozen=True)
class SmokeOptions:
    """What is asked for.

    Attributes:
        level: The last level to run; None: up to ``generate``, and ``golden`` if there is a record.
        every: Insist on every level.
        record: Run every level, and keep a new golden record.
        golden: A file of a golden record to compare with; with ``record`` a new file to write it to.
        memory: The process's resident memory must stay below so many bytes; None: what there is.
        dtype: In which numbers to compute.
        device: ``cpu``, ``cuda`` or ``mps``; None: the best one that is there.
        workers: Threads that decode.
        on_fit: Told how the model fits into this machine before anything large is read.
        on_level: Told how each level ended, as soon as it has.
    """

    level: Level | None = None
    every: bool = False
    record: bool = False
    golden: Path | None = None
    memory: int | None = None
    dtype: Dtype = "bfloat16"
    device: str | None = None
    workers: int = 2
    on_fit: Callable[[tuple[str, ...]], None] | None = None
    on_level: Callable[[LevelReport], None] | None = None


class SmokeTest(msgspec.Struct, frozen=True):
    """A smoke test and what was kept of it.

    Attributes:
        report: What was found.
        run: In which numbers, on which device, and where the weights were, from level ``load`` on;
            level ``golden`` always takes float32.
        golden: What was compared with: the id of an event, or a file; ``""`` if nothing was.
        event: The id of the receipt in the journal; ``""`` if there is none.
        unkept: Why the receipt is not in the journal; ``""`` if it is, or belongs to none.
        recorded: Where the new golden record is: ``journal``, and the file.
        remarks: What else is worth a line.
        advice: What to do about what was found, where that is known; or ``""``.
    """

    report: SmokeReport
    run: Run
    golden: str = ""
    event: str = ""
    unkept: str = ""
    recorded: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    advice: str = ""
