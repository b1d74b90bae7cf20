"""Disks that refuse calls, and what is run on them: by a library that comes before the system's own."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from kit import processes
from kit.cli import Result
from kit.users import python_as

SOURCE = Path(__file__).with_name("refusals.c")
ENVIRONMENT = ("PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "XDG_CACHE_HOME", "HF_ENDPOINT")


def compiled(folder: Path) -> Path:
    """The library, compiled into ``folder``."""
    library = folder / "refusals.so"
    command = ["gcc", "-shared", "-fPIC", "-O1", "-o", library, SOURCE, "-ldl"]
    subprocess.run(command, check=True)
    return library


class Disk(NamedTuple):
    """Runs the command line, where calls on files below ``root`` may be refused."""

    root: Path
    library: Path

    @property
    def log(self) -> Path:
        return self.library.with_name(f"{self.root.name}.log")

    def start(
        self, *words: object, refuse: dict[str, int] | None = None, **more
    ) -> subprocess.Popen:
        environ = {key: os.environ[key] for key in ENVIRONMENT if key in os.environ}
        environ |= more.pop("env", {})
        named, after = more.pop("named", ""), more.pop("after", 0)
        if refuse:
            listed = ",".join(f"{call}={number}" for call, number in refuse.items())
            environ |= {"LD_PRELOAD": str(self.library), "REFUSE": listed}
            environ |= {"REFUSE_BELOW": str(self.root), "REFUSE_LOG": str(self.log)}
            environ |= {"REFUSE_NAMED": named, "REFUSE_AFTER": str(after)}
        user = more.pop("user", None)
        python = python_as(user) if user else [sys.executable]
        module = "archiver"
        if "KIT_BY_CATALOGUE" in os.environ:
            module = "kit.by_catalogue"
            environ["PYTHONPATH"] = str(Path(__file__).parents[1])
        command = [*python, "-m", module, *map(str, words)]
        pipe = subprocess.PIPE
        return processes.start(command, stdout=pipe, stderr=pipe, text=True, env=environ, **more)

    def run(self, *words: object, refuse: dict[str, int] | None = None, **more) -> Result:
        """Run it; each call of ``refuse`` that is one must have been refused, or nothing was tried."""
        self.log.unlink(missing_ok=True)
        process = self.start(*words, refuse=refuse, **more)
        out, err = process.communicate()
        assert "Traceback" not in err, err
        assert "did not expect" not in err, err
        return Result(process.returncode, out, err)

    def refused(self) -> set[str]:
        """The calls that were refused in the last run."""
        return set(self.log.read_text().split()) if self.log.exists() else set()


def number(name: str) -> int:
    return getattr(errno, name)
