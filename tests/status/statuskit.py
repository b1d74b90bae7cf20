"""A small archive to ask about, and what it answers."""

from __future__ import annotations

import re
import shlex

import numpy as np
from kit.cli import Result, invoke


class Answer(Result):
    """What a command said of the archive's status."""

    @property
    def status(self):
        return self.only("status")

    @property
    def short(self):
        """What falls short -> the words of the next command."""
        return {
            shortfall["what"]: words(shortfall["next"]) for shortfall in self.kinds("shortfall")
        }

    def coverage(self, level):
        (one,) = (each for each in self.status["coverage"] if each["level"] == level)
        return one


def words(hint):
    (command,) = re.findall(r"^'archiver (.+)'$", hint)
    return shlex.split(command)


def fill(root):
    """An archive of two repositories, each in a pack of its own."""
    assert invoke("init", "-q", "-C", root) == 0
    for seed, name in enumerate(("one", "two")):
        folder = root.parent / name
        folder.mkdir()
        data = np.random.default_rng(seed).integers(0, 256, 5000 * (1 + seed), np.uint8)
        (folder / "data.bin").write_bytes(data.tobytes())
        args = ["import", "-q", "-C", str(root), str(folder), "--as", f"org/{name}"]
        assert invoke(*args, "--min-free", "0B") == 0
    return root


def packs(root):
    return sorted(root.glob("packs/*/*.pack"))


def seals(root):
    return sorted(path.name.split(".")[1] for path in root.glob("snapshots/*/*/*.json"))
