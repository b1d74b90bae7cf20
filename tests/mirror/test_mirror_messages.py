"""What mirroring says: of a hub that does not answer, of what was typed wrongly, of how it was ended."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from kit import processes
from kit.repository import REPO, WEIGHTS, bf16, model, safetensors

from archiver.loopback.faults import Fault
from archiver.upstream.retry import RetryPolicy


@pytest.fixture
def briefly(monkeypatch):
    """Waits are short, and told."""
    monkeypatch.setattr(RetryPolicy, "delay", lambda *_: 0.02)
    monkeypatch.setattr("archiver.cli.mirroring._QUIET_SECONDS", 0)


def test_a_hub_that_is_not_there_is_told_at_once(hub, served, archive, cli, briefly):
    hub.stop()
    result = cli("mirror", "-C", archive, REPO)
    assert result.code == 30
    first, *_ = lines = result.err.splitlines()
    assert first == "hub does not answer (Connection refused); try 2 of 5 in 0.0 s"
    assert len([line for line in lines if line.startswith("hub does not")]) == 4
    assert "Errno" not in result.err
    assert "5 times in a row" in result.err
    assert "hub does" not in cli("mirror", "-C", archive, REPO, "--quiet").err


def test_a_name_that_cannot_be_resolved(archive, cli, briefly, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")
    result = cli("mirror", "-C", archive, REPO)
    assert result.code == 30
    assert "hub does not answer (its name cannot be resolved: " in result.err
    assert "Errno" not in result.err


def test_a_hub_that_has_answered_is_asked_more_often(hub, served, archive, cli, briefly):
    hub.faults.add(Fault("status", path=WEIGHTS, times=3))
    result = cli("mirror", "-C", archive, REPO)
    assert result.code == 0
    assert "hub: HTTP 503; try 2 of 8 in 0.0 s" in result.err


# ---- errors and --json


@pytest.mark.parametrize(
    "words",
    [
        ("mirror", "--json"),
        ("--json", "mirror"),
        ("--json", "nothing"),
        ("mirror", REPO, "--json", "--jobs", "0"),
    ],
)
def test_a_usage_error_is_a_line_too(cli, words):
    result = cli(*words)
    assert result.code == 2
    (row,) = result.records
    assert (row["kind"], row["exit_code"]) == ("error", 2)
    assert row["message"].rstrip(".") in result.err


def test_an_error_names_what_it_is_about(served, mirror):
    (row,) = mirror("org/absent@v1", "--json").records
    assert (row["repository"], row["revision"]) == ("org/absent", "v1")
    several = mirror("org/absent", REPO)
    assert "archiver: org/absent: " in several.err


def test_a_hostile_name_is_escaped_once(hub, mirror):
    hub.create(REPO, model())
    entry = {"type": "file", "oid": "0" * 40, "size": 2, "path": "../a\x1b[2J"}
    hub.list_also(REPO, entry)
    result = mirror()
    assert result.code == 22
    assert r"'../a\x1b[2J'" in result.err


# ---- names


def test_an_abbreviated_commit_is_completed_from_the_archive(hub, served, mirror):
    first = mirror("--json").records[0]["revision"]
    hub.commit(REPO, {"new.json": b"{}"})
    row = mirror(f"{REPO}@{first[:12]}", "--json").records[0]
    assert (row["outcome"], row["revision"]) == ("held", first)
    unknown = mirror(f"{REPO}@{'ab' * 6}")
    assert unknown.code == 23
    assert "all its 40 digits" in unknown.err


@pytest.mark.parametrize(
    ("address", "right"),
    [
        ("https://huggingface.co/Qwen/Qwen3.5-0.8B", "Qwen/Qwen3.5-0.8B;"),
        ("https://huggingface.co/Qwen/Qwen3.5-0.8B/tree/v1", "Qwen/Qwen3.5-0.8B@v1;"),
    ],
)
def test_an_address_is_not_a_name(hub, mirror, address, right):
    result = mirror(address)
    assert result.code == 2
    assert f"Write it as {right}" in result.err
    assert not len(hub.requests)


def test_an_empty_folder_is_not_imported(cli, archive, tmp_path):
    (tmp_path / "empty").mkdir()
    result = cli("import", "-C", archive, tmp_path / "empty")
    assert result.code == 2
    assert "is it mounted?" in result.err


def test_the_nearest_command_is_named(cli):
    result = cli("miror", REPO)
    assert result.code == 2
    assert "Did you mean mirror?" in result.err


@pytest.mark.parametrize("rate", ["0", "-5", "0.1B"])
def test_a_rate_that_lets_nothing_through(mirror, rate):
    assert mirror("--max-rate", rate).code == 2


# ---- ends


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_being_told_to_stop_is_like_ctrl_c(hub, archive, zygote, number):
    tensors = {f"t{n}": ("BF16", (512, 1024), bf16(n, 512, 1024)) for n in range(8)}
    hub.create(REPO, model() | {WEIGHTS: safetensors(tensors)})
    hub.rate = 4_000_000
    run = zygote.start("mirror", "-C", archive, REPO)
    deadline = time.monotonic() + 600
    while not hub.requests.bodies():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(run.pid, number)
    hub.rate = None
    ended = run.wait()
    assert ended.code == 130, ended
    assert "again to go on" in ended.err


def test_results_that_cannot_be_printed(hub, archive):
    command = [sys.executable, "-m", "archiver", "list", "-C", str(archive)]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert "to stdout: No space left" in done.stderr
    assert "Exception ignored" not in done.stderr


# ---- on a terminal


def on_a_terminal(columns: int, code: str) -> str:
    """What a program shows on a terminal of so many columns."""
    master, slave = pty.openpty()
    environ = os.environ | {"COLUMNS": str(columns), "TERM": "xterm"}
    done = processes.start([sys.executable, "-c", code], stderr=slave, stdout=slave, env=environ)
    os.close(slave)
    shown = b""
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    os.close(master)
    assert done.wait() == 0, shown
    return shown.decode()


_METER = """
import itertools, time, types
from archiver.cli import output, progress
from archiver.cli.progress import Meter
progress.time = types.SimpleNamespace(monotonic=itertools.count().__next__)  # a look takes a second
with Meter("Mirroring") as meter:
    meter.expect(3, 4_000_000_000)
    meter.advance(1_000_000_000, fetched=False)
    meter.advance(10_000, fetched=True)
    time.sleep(0.3)
    output.remark("hub does not answer")
    time.sleep(0.3)
"""


@pytest.mark.parametrize("columns", [40, 120])
def test_a_terminal_shows_percent_bytes_and_the_rate_of_what_came(columns):
    shown = on_a_terminal(columns, _METER)
    assert "25%" in shown
    assert "1.00 GB" in shown
    assert "5.00 kB/s" in shown
    assert "MB/s" not in shown
    (line,) = [line for line in shown.splitlines() if "hub does" in line]
    assert line.endswith("hub does not answer"), json.dumps(line)
