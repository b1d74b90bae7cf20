"""A stream that the caller closed, as a job may do, is no reason to fail or to write into a stored file."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("closed", "folder", "code"), [(">&-", "", 0), ("<&- >&- 2>&-", "absent", 10)]
)
def test_closed_streams(archive, closed, folder, code):
    program = f"{sys.executable} -c 'from archiver.cli.main import run; run()'"
    done = subprocess.run(
        ["bash", "-c", f'{program} list -C "$1" {closed}', "bash", archive / folder],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (code, "")
