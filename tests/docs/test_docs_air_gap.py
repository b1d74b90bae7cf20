"""The page on air gaps is run: its blocks ``<!-- run -->`` here, ``<!-- run there -->`` on a bare machine.

As in the tutorial, each command must print what the page shows; digits and units may differ.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import docskit
import pytest
from kit.bare_machine import bare_machine, without_network
from kit.cli import invoke
from kit.wheels import MACHINE, MINOR, real_wheels

from archiver.demo.checkpoints import write_dense

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = (docskit.ROOT / "docs" / "air-gap.md").read_text(encoding="utf-8")
NEAR, FAR = "<!-- run -->", "<!-- run there -->"
NAME = "Qwen/Qwen3.5-0.8B"


@pytest.fixture
def near(tmp_path, monkeypatch):
    """This side: an archive with the model, and pip set up with an index that is a folder."""
    work = tmp_path / "near"
    work.mkdir()
    model = write_dense(tmp_path / "dense")
    assert invoke("init", "-q", "-C", work / "weights") == 0
    words = ["--as", NAME, "--min-free", "0", "-q"]
    assert invoke("import", "-C", work / "weights", model, *words) == 0
    settings = {
        "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(work),
        "LC_ALL": "C.UTF-8",
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(real_wheels(tmp_path / "index")),
        "PIP_CONFIG_FILE": os.devnull,
    }

    def run(script: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", script],
            cwd=work,
            env=settings,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture
def far(tmp_path):
    """The other side, with the same stick."""
    stick = tmp_path / "stick"
    stick.mkdir()
    machine = bare_machine(tmp_path, stick, without_network())
    machine.require_lonely()
    return machine


def test_the_page_runs(near, far):
    runners: dict[str, Callable] = {NEAR: near, FAR: lambda script: far.run("sh", "-c", script)}
    here = {
        "/media/stick": str(far.stick),
        "linux-x86_64": f"linux-{MACHINE}",
        "py311": f"py3{MINOR}",
    }

    def local(text: str) -> str:
        for there, actual in here.items():
            text = text.replace(there, actual)
        return text

    settings: dict[str, list[str]] = {NEAR: [], FAR: []}
    for side, group in groupby(docskit.steps(PAGE, NEAR, FAR), lambda step: step.mark):
        steps = list(group)
        lines = ["set -e", *settings[side]]
        for number, step in enumerate(steps):
            lines += [f"printf '@@%s\\n' {number}", local(step.command)]
        done = runners[side]("\n".join(lines))
        parts = re.split(r"^@@(\d+)\n", done.stdout, flags=re.MULTILINE)
        last = steps[int(parts[-2])].command if len(parts) > 1 else ""
        assert done.returncode == 0, f"$ {last}\n{parts[-1]}\n{done.stderr}"
        for step, printed in zip(steps, parts[2::2], strict=True):
            shown = {docskit.masked(line) for line in printed.splitlines()}
            missing = [line for line in step.output if docskit.masked(local(line)) not in shown]
            assert not missing, f"$ {step.command}\n{printed}"
        settings[side] += [
            local(each.command) for each in steps if each.command.startswith("export ")
        ]
    model = far.home / "model"
    assert (model / "config.json").is_file()


def test_most_of_the_page_is_run():
    blocks = [block for block in docskit.blocks(PAGE) if block.language == "console"]
    assert sum(block.mark in {NEAR, FAR} for block in blocks) >= len(blocks) - 1


def test_what_it_quotes_is_said():
    """Each message that the page explains stands in what says it."""
    root = docskit.ROOT / "archiver"
    sources = "".join((root / name).read_text() for name in ("cli/bundle.py", "carried/install.py"))
    rows = docskit.table_rows(docskit.section(PAGE, "9. What the messages mean"))
    quoted = [text for row in rows for text in re.findall("`([^`]+)`", row[0])]
    assert len(quoted) >= 6
    for text in quoted:
        for part in re.split("…|volume 2", text):
            assert part.strip() in sources, text


def test_its_commands_are_typed_as_a_shell_reads_them():
    assert all(shlex.split(step.command) for step in docskit.steps(PAGE, NEAR, FAR))
