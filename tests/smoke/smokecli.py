"""What the tests of the command share: an archive of several models, and the command in a process."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING, Any, NamedTuple

from archiver.archive.archive import Archive
from archiver.cli.main import invoke

if TYPE_CHECKING:
    from pathlib import Path

    from kit.zygote import Zygote

    from archiver.archive.events import Event

DENSE, BERT, INT4, PART = "me/dense", "me/minilm", "me/int4", "me/part"


class Said(NamedTuple):
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str

    def kinds(self, kind: str) -> list[dict[str, Any]]:
        records = map(json.loads, self.out.splitlines())
        return [record for record in records if record["kind"] == kind]

    @property
    def verdicts(self) -> dict[str, str]:
        return {one["level"]: one["verdict"] for one in self.kinds("level")}

    @property
    def whole(self) -> dict[str, Any]:
        (found,) = self.kinds("smoke-test")
        return found


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
    done = invoke(
        ["import", "-q", "-C", str(root), str(folder), "--as", name, "--effort", "fast", *more]
    )
    assert done == 0


def replica(root: Path, target: Path) -> Path:
    """The archive once more, the same place; packs share their bytes: replace one, never change it."""

    def take(source: str, copy: str) -> None:
        (os.link if source.endswith(".pack") else shutil.copy2)(source, copy)

    return shutil.copytree(root, target, symlinks=True, copy_function=take)


def receipts(root: Path) -> list[Event]:
    """The receipts in the journal, oldest first."""
    return [event for _, event in Archive.open(root).events() if event.event == "smoke-tested"]
