"""The tutorial's blocks that are marked ``<!-- run -->`` are run, in order, in one shell.

A loopback hub stands in for the real one and serves a small generated checkpoint under the
name of the tutorial's model, and one file each for the rest of the plan.
Where the tutorial shows an output, the command must print it; digits and units may differ.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import docs_forker
import docskit
import pytest
from kit import processes
from kit.disks import memory_disk

from archiver.demo.checkpoints import write_dense
from archiver.loopback.hub import Hub
from archiver.plan.reader import find_plan

TUTORIAL = (docskit.ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")


def steps() -> list[docskit.Step]:
    return docskit.steps(TUTORIAL)


def files_of(folder: Path) -> dict[str, Path]:
    return {
        path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()
    }


@pytest.fixture
def endpoint(tmp_path):
    whole = files_of(write_dense(tmp_path / "dense"))
    part = {"config.json": whole["config.json"]}
    with Hub() as hub:
        for planned in find_plan("qwen3.5").repositories:
            hub.create(planned.name, whole if planned.name == "Qwen/Qwen3.5-0.8B" else part)
        yield hub.endpoint


@pytest.fixture
def spool(tmp_path):
    folder = tmp_path / "spool"
    folder.mkdir()
    for name in ("ask", "answer"):
        os.mkfifo(folder / name)
    processes.start([sys.executable, docs_forker.__file__, folder])
    return folder


@pytest.fixture
def work(tmp_path):
    """Where the tutorial is followed; ``disk2`` is another disk than the archive's."""
    folder = tmp_path / "work"
    with memory_disk(folder / "disk2"):
        yield folder


def environment(home: Path, endpoint: str, spool: Path) -> dict[str, str]:
    keep = {name: os.environ[name] for name in ("TMPDIR",) if name in os.environ}
    return keep | {
        "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(home),
        "HF_ENDPOINT": endpoint,
        "HF_HUB_DISABLE_XET": "1",
        "LC_ALL": "C.UTF-8",
        "SPOOL": str(spool),
    }


def script() -> str:
    lines = ["set -eo pipefail", docs_forker.FUNCTION]
    for number, step in enumerate(steps()):
        lines += [f"printf '@@%s\\n' {number}", step.command]
    return "\n".join(lines)


def test_the_tutorial_runs(tmp_path, work, endpoint, spool):
    done = subprocess.run(
        ["bash", "-c", script()],
        cwd=work,
        env=environment(tmp_path, endpoint, spool),
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    parts = re.split(r"^@@(\d+)\n", done.stdout, flags=re.MULTILINE)
    last = steps()[int(parts[-2])].command if len(parts) > 1 else ""
    assert done.returncode == 0, f"$ {last}\n{parts[-1]}\n{done.stderr}"
    for step, printed in zip(steps(), parts[2::2], strict=True):
        lines = {docskit.masked(line) for line in printed.splitlines()}
        missing = [line for line in step.output if docskit.masked(line) not in lines]
        assert not missing, f"$ {step.command}\n{printed}"


def test_most_of_the_tutorial_is_run():
    blocks = [block for block in docskit.blocks(TUTORIAL) if block.language == "console"]
    assert sum(block.run for block in blocks) >= len(blocks) - 1  # installing needs a network
