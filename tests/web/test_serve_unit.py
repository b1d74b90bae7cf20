"""The unit on the page about serving: systemd reads it, and its command serves."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from kit import processes
from kit.served import Server
from servedkit import MODEL

ROOT = Path(__file__).parents[2]
PROGRAM, ARCHIVE, TOKEN = "/opt/archiver/bin/archiver", "/srv/weights", "%d/token"
NAME = "archiver-serve.service"


@pytest.fixture(scope="module")
def text() -> str:
    page = (ROOT / "docs/serve.md").read_text(encoding="utf-8")
    assert f"/etc/systemd/system/{NAME}" in page
    (unit,) = re.findall(r"^```ini\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    return unit


def settings(text: str) -> dict[str, str]:
    pairs = [line.partition("=") for line in text.splitlines() if re.match(r"\w+=", line)]
    names = [name for name, _, _ in pairs]
    assert len(set(names)) == len(names)
    return {name: value for name, _, value in pairs}


def put_in(text: str, folder: Path) -> Path:
    """The unit for a machine that has this program and this user."""
    text = text.replace(PROGRAM, "/usr/bin/true").replace("User=archiver", "User=games")
    path = folder / NAME
    path.write_text(text)
    return path


def test_systemd_finds_nothing_wrong(text, tmp_path):
    path = put_in(text, tmp_path)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", path.name],
        cwd=tmp_path,
        env=os.environ | {"SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_it_is_exposed_by_no_more_than_3(text, tmp_path):
    path = put_in(text, tmp_path)
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--threshold=30", "--no-pager", path],
        check=False,
        capture_output=True,
    )
    assert done.returncode == 0, done.stdout.decode()


def test_its_command_serves_and_ends_as_the_unit_expects(text, history, tmp_path):
    unit = settings(text)
    token = tmp_path / "token"
    token.write_text("a-token-of-many-signs")
    token.chmod(0o400)
    for shown in (PROGRAM, ARCHIVE, TOKEN, "--host 0.0.0.0", "--port 8080"):
        assert unit["ExecStart"].count(shown) == 1
    line = unit["ExecStart"].replace(ARCHIVE, str(history.archive)).replace(TOKEN, str(token))
    line = line.replace("0.0.0.0", "127.0.0.1").replace("--port 8080", "--port 0")
    words = [sys.executable, "-m", "archiver", *shlex.split(line)[1:]]
    process = processes.start(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    server = Server(process.stdout.readline().strip(), process)
    path = f"/{MODEL}/resolve/main/config.json"
    assert server.ask(path).status == 401
    told = {"Authorization": "Bearer a-token-of-many-signs"}
    assert server.ask(path, told | {"Host": "archive"}).status == 200
    assert server.stop()[0] == 0
    assert int(unit["TimeoutStopSec"]) > 20, "answers on their way have so long"


def test_a_wrong_option_is_not_tried_again(text):
    command = [sys.executable, "-m", "archiver", "serve", "--port", "70000"]
    done = subprocess.run(command, check=False, capture_output=True, timeout=60)
    assert str(done.returncode) in settings(text)["RestartPreventExitStatus"].split()
