"""A machine with nothing on it: no network interface, an empty home, no zstd, a medium that is only read.

What is typed there is what stands on the medium's own page.
"""

from __future__ import annotations

import html
import re
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from bundlekit import SMALL, Carried, take_in
from kit.bare_machine import bare_machine, without_network
from kit.cli import invoke
from kit.disks import needs_mount, read_only, skip_unless_mountable
from kit.repository import files_below, noise
from kit.wheels import HERE, real_wheels

if TYPE_CHECKING:
    from pathlib import Path


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
    with ExitStack() as mounts:
        yield bare_machine(tmp_path, mounts.enter_context(read_only(stick)), prefix)


def commands_of(volume: Path, title: str) -> list[str]:
    """The commands below a heading of the volume's own page, as they are typed."""
    page = (volume / "START-HERE.html").read_text()
    part = page.partition(f"<h2>{title}")[2].partition("<h2>")[0]
    blocks = re.findall("<pre>(.*?)</pre>", part, re.DOTALL)
    return [line for block in blocks for line in html.unescape(block).splitlines()]


@needs_mount
def test_by_the_page_of_the_stick_alone(machine, origin):
    """Whoever types what stands there, in that order, has the models."""
    carried, _ = origin
    machine.require_lonely()
    install, path = commands_of(machine.volume, "No archiver on that machine?")
    said = machine.shell(install, machine.volume)
    assert [path.name for path in machine.home.iterdir()] == ["archiver"]
    typed = commands_of(machine.volume, "With archiver")
    outputs = [machine.shell(f"{path}; {line}", machine.volume) for line in typed]
    assert typed[0] == "archiver bundle verify --part ."
    assert "is whole" in outputs[0]
    assert "is in the archive now" in outputs[1]
    assert SMALL in outputs[2]
    for folder in ("model", "from-volumes"):
        assert files_below(machine.home / folder) == files_below(carried.model(SMALL))
    machine.shell(f"{path}; archiver audit -C ~/weights")
    # What the installer says comes next is the same, from wherever one is.
    archiver = machine.home / "archiver" / "bin" / "archiver"
    assert [line.strip() for line in said.splitlines() if line.startswith(f"    {archiver}")] == [
        f"{archiver} bundle verify --part {machine.stick}",
        f"{archiver} bundle import -C weights --new {machine.stick}",
        f"{archiver} list -C weights",
    ]


@needs_mount
def test_a_bare_python_restores_by_the_page(machine, origin):
    carried, _ = origin
    for line in commands_of(machine.volume, "Without archiver"):
        # No package of this machine's own helps.
        machine.shell(line.replace("python3 -I", "python3 -I -S"), machine.volume)
    assert files_below(machine.home / "by-hand") == files_below(carried.model(SMALL))
