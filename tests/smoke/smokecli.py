"""What the tests of the command share: an archive of several models, and the command in a process."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

from kit.cli import Result, invoke

from archiver.archive.archive import Archive

if TYPE_CHECKING:
    from pathlib import Path

    from kit.zygote import Zygote

    from archiver.archive.events import Event

DENSE, BERT, INT4, PART = "me/dense", "me/minilm", "me/int4", "me/part"


class Said(Result):
    """How a command ended, and what it said."""

    @property
    def verdicts(self) -> dict[str, str]:
        return {record["level"]: record["verdict"] for record in self.kinds("level")}

    @property
    def whole(self) -> dict[str, Any]:
        return self.only("smoke-test")


class Command:
    """The command line, each in a process of its own."""

    def __init__(self, zygote: Zygote) -> None:
        self._zygote = zygote

    def __call__(self, *arguments: object, **hooks: object) -> Said:
        ended = self._zygote.run(*arguments, **hooks)
        assert "Traceback" not in ended.err, ended.err
        return Said(*ended)

    def json(self, *arguments: object, **hooks: object) -> Said:
        return self("--json", *arguments, **hooks)


def put(root: Path, folder: Path, name: str, *more: str) -> None:
    """Import a folder under a name."""
    words = ("import", "-q", "-C", root, folder, "--as", name, "--effort", "fast", *more)
    assert invoke(*words) == 0


def replica(root: Path, target: Path) -> Path:
    """The archive once more, the same place; packs share their bytes: replace one, never change it."""

    def take(source: str, copy: str) -> None:
        (os.link if source.endswith(".pack") else shutil.copy2)(source, copy)

    return shutil.copytree(root, target, symlinks=True, copy_function=take)


def receipts(root: Path) -> list[Event]:
    """The receipts in the journal, oldest first."""
    return [event for _, event in Archive.open(root).events() if event.event == "smoke-tested"]
