"""What the tests of the levels that run a model share."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archiver.smoke.checkpoint.folder import FolderCheckpoint
from archiver.smoke.loading import check as load
from archiver.smoke.messages import Ended, Fits, Settings
from archiver.smoke.report import LEVELS, SmokeReport
from archiver.smoke.worker import climb as climb_levels

if TYPE_CHECKING:
    import pytest

    from archiver.archive.findings import Finding
    from archiver.smoke.checkpoint.files import Checkpoint
    from archiver.smoke.report import Level, LevelReport
    from archiver.smoke.session import Session

TO_FORWARD: tuple[Level, ...] = ("tokenizer", "load", "forward")
TO_GENERATE: tuple[Level, ...] = (*TO_FORWARD, "generate")
TO_GOLDEN: tuple[Level, ...] = ("tokenizer", "load", "golden")


@dataclass(frozen=True)
class Climb:
    """How a smoke test of a folder ended."""

    report: SmokeReport
    session: Session

    def __getitem__(self, level: Level) -> LevelReport:
        return next(one for one in self.report.levels if one.level == level)

    @property
    def verdicts(self) -> dict[Level, str]:
        return {one.level: one.verdict for one in self.report.levels}

    @property
    def wrong(self) -> list[Finding]:
        return [one for one in self.report.findings if not one.remark]


def climb(folder: Path, levels: tuple[Level, ...] = LEVELS, **settings: Any) -> Climb:
    """Run levels in this process, as a child of the smoke test would."""
    checkpoint = FolderCheckpoint(folder, workers=2)
    try:
        return climb_checkpoint(checkpoint, levels, Settings(**settings, device="cpu"))
    finally:
        checkpoint.close()


def climb_checkpoint(
    checkpoint: Checkpoint, levels: tuple[Level, ...], settings: Settings
) -> Climb:
    told = list[Any]()
    with tempfile.TemporaryDirectory() as scratch:
        session = climb_levels(checkpoint, levels, settings, Path(scratch), told.append)
    reports = tuple(one.report for one in told if isinstance(one, Ended))
    fit = next((one.lines for one in reversed(told) if isinstance(one, Fits)), ())
    return Climb(SmokeReport(checkpoint.title, reports, fit), session)


def stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have models streamed that would fit."""
    fit = load.fit
    monkeypatch.setattr(load, "fit", lambda *given: replace(fit(*given), mode="streamed"))


def plain(folder: Path, dtype: str) -> Any:
    """transformers' own model, loaded from the files as anybody would."""
    import torch
    import transformers

    config = transformers.AutoConfig.from_pretrained(folder)
    cls = getattr(transformers, config.architectures[0])
    return cls.from_pretrained(
        folder,
        dtype=getattr(torch, dtype),
        attn_implementation="eager",
        experts_implementation="eager",
    ).eval()
