"""Disks that refuse calls, and what is run on them: by a library that comes before the system's own."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).with_name("refusals.c")
ENVIRONMENT = ("PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "XDG_CACHE_HOME", "HF_ENDPOINT")


AS_SOMEBODY = """
import ctypes, json, os, sys
who = json.loads(sys.argv.pop(1))
os.umask(who["umask"])
libc = ctypes.CDLL(None, use_errno=True)
os.setgroups(who["groups"])
os.setgid(who["gid"])
libc.prctl(8, 1, 0, 0, 0)  # PR_SET_KEEPCAPS
os.setuid(who["uid"])
if who["uid"] or who["powerless"]:
    # Python itself may lie in root's home: to read is allowed, to write is not. Modes bind the powerless.
    rights = 0 if who["powerless"] else 1 << 2  # CAP_DAC_READ_SEARCH
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    data = (ctypes.c_uint32 * 6)(rights, rights, 0, 0, 0, 0)
    if libc.capset(header, data):
        sys.exit("capset failed")
from archiver.__main__ import main
main()
"""
"""Runs the command line as another user, bound by modes where it writes."""


class Person(NamedTuple):
    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    umask: int = 0o022
    powerless: bool = False
    """Whether modes bind it also where it reads."""


class Ended(NamedTuple):
    code: int
    out: str
    err: str
    seconds: float

    def rows(self, kind: str) -> list[dict]:
        return [row for row in map(json.loads, self.out.splitlines()) if row["kind"] == kind]

    @property
    def codes(self) -> set[str]:
        """The codes of the findings."""
        return {row["code"] for row in self.rows("finding")}


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
        start = ["-m", "archiver"]
        person = more.pop("person", None)
        if person:
            start = ["-c", AS_SOMEBODY, json.dumps(person._asdict())]
        command = [sys.executable, *start, *map(str, words)]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environ, **more)

    def run(self, *words: object, refuse: dict[str, int] | None = None, **more) -> Ended:
        """Run it; each call of ``refuse`` that is one must have been refused, or nothing was tried."""
        self.log.unlink(missing_ok=True)
        before = time.monotonic()
        process = self.start(*words, refuse=refuse, **more)
        out, err = process.communicate()
        assert "Traceback" not in err, err
        assert "did not expect" not in err, err
        return Ended(process.returncode, out, err, time.monotonic() - before)

    def refused(self) -> set[str]:
        """The calls that were refused in the last run."""
        return set(self.log.read_text().split()) if self.log.exists() else set()


def number(name: str) -> int:
    return getattr(errno, name)
