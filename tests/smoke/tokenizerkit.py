"""What the tests of the tokenizer and of the inputs share: a session of a folder, files to spoil."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from archiver.smoke.checkpoint.folder import FolderCheckpoint
from archiver.smoke.messages import Settings
from archiver.smoke.session import Session
from archiver.smoke.tokenizer.check import check_tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from archiver.archive.findings import Finding


def session_of(folder: Path, tmp_path: Path) -> Session:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return Session(FolderCheckpoint(folder, workers=1), Settings(), scratch, lambda _: None)


def findings_of(folder: Path, tmp_path: Path) -> tuple[Finding, ...]:
    return check_tokenizer(session_of(folder, tmp_path)).findings


def told(findings: tuple[Finding, ...]) -> list[tuple[str, str]]:
    """Code and file of each finding."""
    return [(finding.code, finding.path) for finding in findings]


def edit(path: Path, change: Callable[[Any], object]) -> None:
    """Change a JSON file's content in place."""
    content = json.loads(path.read_text("utf-8"))
    change(content)
    path.write_text(json.dumps(content, ensure_ascii=False), "utf-8")
