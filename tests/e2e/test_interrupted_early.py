"""Ctrl-C while the program is still being loaded is an interruption like any other."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

SCRIPT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"][
    "scripts"
]["archiver"]
MODULE, _, FUNCTION = SCRIPT.partition(":")


@pytest.mark.parametrize(
    "begin", [("-m", "archiver"), ("-c", f"from {MODULE} import {FUNCTION}; {FUNCTION}()")]
)
def test_ctrl_c_while_modules_are_loaded(tmp_path, begin):
    # Loaded instead of the library that the command line is made with.
    (tmp_path / "click.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    done = subprocess.run(
        [sys.executable, *begin, "list"],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr.splitlines()[0] == "archiver: Interrupted."
    assert "Traceback" not in done.stderr
