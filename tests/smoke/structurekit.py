"""Runs level ``structure`` on a folder, or on a checkpoint."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from archiver.smoke.checkpoint.folder import FolderCheckpoint
from archiver.smoke.messages import Settings
from archiver.smoke.report import FailedError, Proof
from archiver.smoke.session import Session
from archiver.smoke.structure.check import check_structure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.archive.findings import Finding
    from archiver.smoke.checkpoint.files import Checkpoint


@contextmanager
def session_of(model: Path | Checkpoint) -> Iterator[Session]:
    checkpoint = FolderCheckpoint(model, workers=1) if isinstance(model, Path) else model
    with tempfile.TemporaryDirectory() as scratch:
        yield Session(checkpoint, Settings(), Path(scratch), lambda _: None)
    checkpoint.close()


def structure_of(model: Path | Checkpoint) -> Proof:
    with session_of(model) as session:
        try:
            return check_structure(session)
        except FailedError as error:
            return Proof((), error.findings)


def told(folder: Path) -> set[tuple[str, str]]:
    """Code and tensor, or file, of each finding that is no remark."""
    return {(one.code, one.tensor or one.path) for one in findings(folder)}


def findings(folder: Path) -> list[Finding]:
    return [one for one in structure_of(folder).findings if not one.remark]


def remarks(folder: Path) -> list[Finding]:
    return [one for one in structure_of(folder).findings if one.remark]
