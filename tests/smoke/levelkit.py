"""What the tests of the levels that run a model share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from archiver.smoke.checkpoint.folder import FolderCheckpoint
from archiver.smoke.levels import LEVELS
from archiver.smoke.loading import check as load
from archiver.smoke.run import run
from archiver.smoke.trial import Trial, Wishes

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from archiver.archive.findings import Finding
    from archiver.smoke.levels import Level
    from archiver.smoke.report import LevelReport, SmokeReport

TO_FORWARD: tuple[Level, ...] = ("tokenizer", "load", "forward")
TO_GENERATE: tuple[Level, ...] = (*TO_FORWARD, "generate")
TO_GOLDEN: tuple[Level, ...] = ("tokenizer", "load", "golden")


class Silent:
    def __getattr__(self, _name: str) -> Any:
        return lambda *_, **__: None


@dataclass(frozen=True)
class Climb:
    """How a smoke test of a folder ended."""

    report: SmokeReport
    trial: Trial

    def __getitem__(self, level: Level) -> LevelReport:
        return next(one for one in self.report.levels if one.level == level)

    @property
    def verdicts(self) -> dict[Level, str]:
        return {one.level: one.verdict for one in self.report.levels}

    @property
    def wrong(self) -> list[Finding]:
        return [one for one in self.report.findings if not one.remark]


def climb(folder: Path, levels: tuple[Level, ...] = LEVELS, **wishes: Any) -> Climb:
    checkpoint = FolderCheckpoint(folder, workers=2)
    try:
        return Climb(*run(checkpoint, levels, Wishes(**wishes, device="cpu"), Silent()))
    finally:
        checkpoint.close()


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
