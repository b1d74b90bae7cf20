"""A machine with nothing on it: no network interface, an empty home, a bare Python, no zstd."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from pathlib import Path

PROGRAMS = ("sh", "dirname", "cat", "cp", "sha256sum")
"""What the machine has besides a bare Python."""
LONELY = """
import os, socket
names = {line.split(":")[0].strip() for line in open("/proc/net/dev") if ":" in line}
assert names <= {"lo"}, names
assert socket.socket().connect_ex(("127.0.0.1", 9)) != 0
assert not os.listdir(os.environ["HOME"])
"""


def bare_python() -> str:
    """The interpreter beneath this one's environment."""
    return getattr(sys, "_base_executable", sys.executable)


def without_network() -> list[str]:
    """The words before a command that leave it no interface; a machine of the CI must have them."""
    unshare = shutil.which("unshare") or "unshare"
    for words in ([unshare, "--net"], [unshare, "--map-root-user", "--net"]):
        done = subprocess.run([*words, "true"], capture_output=True, check=False)
        if done.returncode == 0:
            return words
    assert not os.environ.get("CI"), "no namespace without a network can be made here"
    pytest.skip("no namespace without a network can be made here")


class Machine(NamedTuple):
    """The far machine: its home, the programs that it has, and the medium as it is mounted there."""

    home: Path
    programs: Path
    stick: Path
    prefix: list[str]

    @property
    def volume(self) -> Path:
        return self.stick / "volume-0001"

    def run(self, *words: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.prefix, *map(str, words)],
            env={"PATH": str(self.programs), "HOME": str(self.home)},
            cwd=cwd or self.home,
            capture_output=True,
            text=True,
            check=False,
        )

    def shell(self, line: str, cwd: Path | None = None) -> str:
        done = self.run("sh", "-c", line, cwd=cwd)
        assert done.returncode == 0, f"$ {line}\n{done.stdout}{done.stderr}"
        return done.stdout

    def require_lonely(self) -> None:
        """There is no interface that is up, nothing at home, and no zstd."""
        done = self.run("python3", "-I", "-c", LONELY)
        assert done.returncode == 0, done.stderr
        assert self.run("zstd", "--version").returncode != 0


def bare_machine(folder: Path, stick: Path, prefix: list[str]) -> Machine:
    """Make its home and its programs in a folder."""
    home, programs = folder / "home", folder / "bin"
    home.mkdir()
    programs.mkdir()
    for name in PROGRAMS:
        (programs / name).symlink_to(shutil.which(name))
    (programs / "python3").write_text(f'#!/bin/sh\nexec {bare_python()} "$@"\n')
    (programs / "python3").chmod(0o755)
    return Machine(home, programs, stick, prefix)
