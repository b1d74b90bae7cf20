"""A mounted archive, and programs that read from it: none of them can make a test wait for ever."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

PATIENCE = 120
"""Seconds for whatever takes a part of one on a machine with nothing else to do."""


class Mounted:
    """``archiver mount`` in a process of its own; use as a context manager."""

    def __init__(self, archive: Path, folder: Path, *words: object) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self._files = [folder.with_name(f"{folder.name}.{name}") for name in ("out", "err")]
        command = [sys.executable, "-m", "archiver", "mount", "-C", archive, folder, *words]
        with self._files[0].open("wb") as out, self._files[1].open("wb") as err:
            self.process = subprocess.Popen(
                list(map(str, command)), stdin=subprocess.DEVNULL, stdout=out, stderr=err
            )

    def __enter__(self) -> Self:
        try:
            self.until(lambda: b"\n" in self._files[0].read_bytes())
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        unmount(self.folder)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        self.process.kill()
        self.process.wait()

    def until(self, happened) -> None:
        """Wait for something; fail if the process ends before it, or it takes too long."""
        end = time.monotonic() + PATIENCE
        while not happened():
            assert self.process.poll() is None, (self.process.returncode, self.out, self.err)
            assert time.monotonic() < end, (self.out, self.err)
            time.sleep(0.01)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Tell it to end; return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    @property
    def out(self) -> str:
        return self._files[0].read_text()

    @property
    def err(self) -> str:
        return self._files[1].read_text()


def unmount(folder: Path) -> None:
    """Unmount whatever is there, also where a program still uses it."""
    if is_mounted(folder):
        subprocess.run(["umount", "-l", folder], check=False, timeout=PATIENCE)


def is_mounted(folder: Path) -> bool:
    """Whether something is mounted there; nothing touches it."""
    points = (line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines())
    return os.fspath(folder) in points


def python(code: str, *arguments: object, **environ: str) -> str:
    """Run a program that reads from a mount; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        env=os.environ | environ,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def digests(folder: Path) -> dict[str, str]:
    """Path and SHA-256 of every file below a folder, by a program of its own that follows no link."""
    code = """
import hashlib, json, os, sys
found = {}
for at, _, names in os.walk(sys.argv[1]):
    for name in names:
        path = os.path.join(at, name)
        if not os.path.islink(path):
            with open(path, 'rb') as file:
                digest = hashlib.file_digest(file, 'sha256').hexdigest()
            found[os.path.relpath(path, sys.argv[1])] = digest
print(json.dumps(found))
"""
    return json.loads(python(code, folder))


def refused(path: Path) -> str:
    """The name of the error that reading a file gives, ``""`` if it can be read."""
    code = """
import errno, sys
try:
    open(sys.argv[1], 'rb').read()
except OSError as error:
    print(errno.errorcode[error.errno])
"""
    return python(code, path).strip()
