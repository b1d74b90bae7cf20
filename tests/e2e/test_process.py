"""The process around a command: streams that are closed or know few signs, and an early Ctrl-C."""

from __future__ import annotations

import json
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
PROGRAM = "from archiver.cli.main import run; run()"


@pytest.mark.parametrize(
    ("closed", "folder", "code"), [(">&-", "", 0), ("<&- >&- 2>&-", "absent", 10)]
)
def test_closed_streams(archive, closed, folder, code):
    program = f"{sys.executable} -c '{PROGRAM}'"
    done = subprocess.run(
        ["bash", "-c", f'{program} list -C "$1" {closed}', "bash", archive / folder],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (code, "")


def _said(encoding: str, *words: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *words],
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        check=False,
    )


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_terminal_that_knows_few_signs(tmp_path, encoding):
    folder = tmp_path / "weights-µ-→-😀"
    assert _said(encoding, "init", "-C", str(folder)).returncode == 0
    shown = _said(encoding, "stats", "-C", str(folder / "none"))
    assert (shown.returncode, b"Traceback" in shown.stderr) == (10, False)
    made = _said(encoding, "--json", "init", "-C", str(folder / "other"))
    assert made.returncode == 0, made.stderr
    record = json.loads(made.stdout.decode(encoding).splitlines()[-1])
    assert str(folder / "other") in record.values()
    found = _said(encoding, "init", "-C", str(folder / "again"))
    assert found.returncode == 0
    sign = {
        "ascii": rb"\xb5-\u2192-\U0001f600",
        "latin-1": b"\xb5-\\u2192",
        "utf-8": "µ-→-😀".encode(),
    }
    assert sign[encoding] in found.stdout


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
