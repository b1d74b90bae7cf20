"""Runs level ``structure`` on a folder, or on a checkpoint."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from archiver.smoke.checkpoint.folder import FolderCheckpoint
from archiver.smoke.report import FailedError, Proof
from archiver.smoke.structure.check import check_structure
from archiver.smoke.trial import Trial, Wishes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from archiver.archive.findings import Finding
    from archiver.smoke.checkpoint.protocol import Checkpoint


class _Silent:
    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_args, **_options: None


@contextmanager
def trial_of(model: Path | Checkpoint) -> Iterator[Trial]:
    checkpoint = FolderCheckpoint(model, workers=1) if isinstance(model, Path) else model
    with tempfile.TemporaryDirectory() as scratch:
        yield Trial(checkpoint, Wishes(), _Silent(), Path(scratch))
    checkpoint.close()


def structure_of(model: Path | Checkpoint) -> Proof:
    with trial_of(model) as trial:
        try:
            return check_structure(trial)
        except FailedError as error:
            return Proof((), error.findings)


def told(folder: Path) -> set[tuple[str, str]]:
    """Code and tensor, or file, of each finding that is no remark."""
    return {(one.code, one.tensor or one.path) for one in findings(folder)}


def findings(folder: Path) -> list[Finding]:
    return [one for one in structure_of(folder).findings if not one.remark]


def remarks(folder: Path) -> list[Finding]:
    return [one for one in structure_of(folder).findings if one.remark]
