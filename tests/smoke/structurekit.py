"""Runs level ``structure`` on a folder."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from archiver.progress import NoProgress
from archiver.smoke.folder import FolderCheckpoint
from archiver.smoke.report import FailedError, Proof
from archiver.smoke.structure.check import check_structure
from archiver.smoke.trial import Trial, Wishes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.archive.finding import Finding


@contextmanager
def trial_of(folder: Path) -> Iterator[Trial]:
    checkpoint = FolderCheckpoint(folder, workers=1)
    with tempfile.TemporaryDirectory() as scratch:
        yield Trial(checkpoint, Wishes(), NoProgress(), Path(scratch))
    checkpoint.close()


def structure_of(folder: Path) -> Proof:
    with trial_of(folder) as trial:
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
