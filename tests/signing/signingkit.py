"""Keys, a signed archive, and the stock program minisign, to sign, verify and tamper with."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

MINISIGN = "/usr/bin/minisign"


def minisign(*arguments, typed="", cwd=None):
    """Run the stock program; ``typed`` is what a person types at its prompts."""
    return subprocess.run(
        [MINISIGN, *map(str, arguments)],
        input=typed, capture_output=True, text=True, cwd=cwd, check=False,
    )  # fmt: skip


class Weights:
    """An archive on disk."""

    def __init__(self, root: Path):
        self.root = root

    def below(self, folder):
        return sorted(path for path in (self.root / folder).rglob("*") if path.is_file())

    @property
    def seals(self):
        return self.below("snapshots")

    @property
    def manifests(self):
        return self.below("manifests")

    @property
    def events(self):
        """Their files, oldest first."""
        return self.below("journal")

    def newest(self, kind):
        """The file of the newest event of a kind; names alone do not order those of one second."""
        found = [(path, json.loads(path.read_bytes())) for path in self.events]
        named = {before for _, event in found for before in event["after"]}
        found = [(one, event) for one, event in found if event["event"] == kind]
        (newest,) = [one for one, _ in found if digest_of(one) not in named] or [found[-1][0]]
        return newest

    @property
    def signatures(self):
        return self.below("signatures")

    def signature_of(self, document: Path) -> Path:
        digest = digest_of(document)
        (found,) = (path for path in self.signatures if path.name.startswith(digest))
        return found


def digest_of(path: Path) -> str:
    return path.name.split(".")[1]
