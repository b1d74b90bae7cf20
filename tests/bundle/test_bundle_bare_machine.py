"""A machine with nothing on it: no network interface, an empty home, no zstd, a medium that is only read.

All commands that are run there are those of the medium's own page, and those that the installer prints.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

import pytest
from bundlekit import SMALL, Carried, take_in
from kit.cli import invoke
from kit.disks import needs_mount, read_only, skip_unless_mountable
from kit.repository import files_below, noise
from wheelkit import HERE, real_wheels

if TYPE_CHECKING:
    from pathlib import Path

PROGRAMS = ("sh", "dirname", "cat", "sha256sum")
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
    """The far machine: its home, what it calls programs, and the medium as it is mounted there."""

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


@pytest.fixture(scope="module")
def origin(tmp_path_factory):
    """The near side: an archive, and a bundle of one repository with the tool."""
    folder = tmp_path_factory.mktemp("near")
    carried = Carried(folder / "archive", folder)
    model = carried.model(SMALL)
    model.mkdir()
    (model / "weights.bin").write_bytes(noise(1, 300_000))
    (model / "config.json").write_text("{}")
    assert invoke("init", "-q", "-C", carried.root) == 0
    take_in(carried.root, model, SMALL)
    wheels = real_wheels(folder / "wheels")
    words = ["--to", folder / "stick", "--volume-size", "1GB", "--parity", "2"]
    tool = ["--with-tool", HERE, "--tool-wheels", wheels]
    assert invoke("bundle", "export", "-q", "-C", carried.root, SMALL, *words, *tool) == 0
    return carried, folder / "stick"


@pytest.fixture
def machine(origin, tmp_path):
    _, stick = origin
    prefix = without_network()
    skip_unless_mountable()
    home, programs = tmp_path / "home", tmp_path / "bin"
    home.mkdir()
    programs.mkdir()
    for name in PROGRAMS:
        (programs / name).symlink_to(shutil.which(name))
    (programs / "python3").write_text(f'#!/bin/sh\nexec {bare_python()} "$@"\n')
    (programs / "python3").chmod(0o755)
    with ExitStack() as mounts:
        yield Machine(home, programs, mounts.enter_context(read_only(stick)), prefix)


def commands_of(text: str) -> list[str]:
    """The commands in what the installer, or the page, says: lines that are set off."""
    return [line.strip() for line in text.splitlines() if line.startswith("    ")]


@needs_mount
def test_from_the_stick_alone(machine, origin):
    carried, _ = origin
    assert machine.run("python3", "-I", "-c", LONELY).returncode == 0
    assert machine.run("zstd", "--version").returncode != 0
    said = machine.shell(f"sh {shlex.quote(str(machine.volume))}/tools/install.sh")
    assert [path.name for path in machine.home.iterdir()] == ["archiver"]
    verify, take_in, what = [line for line in commands_of(said) if line.startswith("/")]
    assert "volume 1 of 1" in machine.shell(verify)
    assert "is in the archive now" in machine.shell(take_in)
    assert SMALL in machine.shell(what)
    archiver = what.split()[0]
    machine.shell(f"{archiver} restore -C weights {SMALL} model")
    assert files_below(machine.home / "model") == files_below(carried.model(SMALL))
    machine.shell(f"{archiver} audit -C weights")
    machine.shell(f"{archiver} manifest export -C weights {SMALL} -o manifest.json")
    machine.shell(f"{archiver} verify model --manifest manifest.json")
    machine.shell(f"{archiver} bundle restore {machine.stick} second")
    assert files_below(machine.home / "second") == files_below(carried.model(SMALL))


@needs_mount
def test_a_bare_python_restores_there(machine, origin):
    carried, _ = origin
    machine.shell("sha256sum -c --quiet sha256sums.txt", machine.volume)
    out = machine.home / "model"
    machine.shell(
        f"python3 -I -S decode.py restore {SMALL} {shlex.quote(str(out))}", machine.volume
    )
    assert files_below(out) == files_below(carried.model(SMALL))


@needs_mount
@pytest.mark.parametrize("word", ["refused", "interrupted"])
def test_what_was_begun_is_ended_by_the_next_run(machine, word):
    """A run that was killed leaves a folder that says so; nobody else's is touched."""
    into = machine.home / "archiver"
    into.mkdir()
    mark = "archiver-install-unfinished" if word == "interrupted" else "notes.txt"
    (into / mark).write_text("")
    (into / "more").write_text("")
    done = machine.run("sh", machine.volume / "tools/install.sh", "--check")
    assert done.returncode == 0
    assert (into / "more").exists()
    if word == "refused":
        done = machine.run("sh", machine.volume / "tools/install.sh")
        assert done.returncode == 2
        assert (into / "more").exists()
