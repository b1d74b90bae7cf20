"""Ctrl-C and SIGTERM are heard while a hub is silent or trickles, and while files are compared."""

from __future__ import annotations

import os
import signal
import threading

import pytest
from kit.repository import REPO, files_below, noise

from archiver.cli import main
from archiver.loopback.faults import Fault
from archiver.operations.restore import run
from archiver.progress import stop_requested

SLOW = {
    "silent": {"kind": "stall", "after": 1000, "seconds": 3600.0},
    "a trickle": {"kind": "drip", "after": 1000, "seconds": 0.1},
    "asks to wait": {"kind": "rate_limit", "seconds": 300.0},
}
"""None of these ends by itself before the guard does."""
GUARD_SECONDS = 120.0


@pytest.mark.parametrize("how", SLOW)
def test_a_stop_is_heard_while_the_hub_lets_us_wait(hub, archive, zygote, monkeypatch, how):
    monkeypatch.setenv("ARCHIVER_TIMEOUT", "3600")
    monkeypatch.setenv("ARCHIVER_LEAST_RATE", "0")
    hub.create(REPO, {"m.bin": noise(1, 300_000)})
    fault = hub.faults.add(Fault(path="m.bin", times=None, **SLOW[how]))
    child = zygote.start("mirror", "-q", "-C", archive, REPO, "--min-free", "0B")
    asked = threading.Event()
    while not fault.hits:
        asked.wait(0.02)
    late = threading.Event()
    guard = threading.Timer(GUARD_SECONDS, lambda: (late.set(), child.kill()))
    guard.start()
    os.kill(child.pid, signal.SIGINT)
    result = child.wait()
    guard.cancel()
    assert not late.is_set()
    assert result.code == 130, result.err
    assert not list(archive.glob("snapshots/*/*/*"))


@pytest.fixture
def stoppable():
    """Signals end the run as they do in the program."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, main._end)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    stop_requested.clear()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_ends_the_comparison_of_files_that_are_there(
    hub, archive, cli, tmp_path, monkeypatch, stoppable, number
):
    """Nothing more is read of a file that is being compared, and all stays as it was."""
    files = {"a.bin": noise(1, 9 << 20), "b.bin": noise(2, 9 << 20)}
    hub.create(REPO, files)
    assert cli("mirror", "-q", "-C", archive, REPO, "--min-free", "0B").code == 0
    out = tmp_path / "out"
    assert cli("restore", "-q", "-C", archive, REPO, out).code == 0
    compared: list[int] = []
    real = run.holds

    def holds(path, entry, advance):
        def stopping(count: int) -> None:
            compared.append(count)
            os.kill(os.getpid(), number)
            assert stop_requested.wait(60)  # the main thread has heard
            advance(count)

        return real(path, entry, stopping)

    monkeypatch.setattr(run, "holds", holds)
    done = cli("restore", "-q", "-C", archive, REPO, out)
    assert done.code == 130
    assert 1 <= len(compared) <= len(files)  # each file's first piece at most
    assert sum(compared) < sum(map(len, files.values()))
    assert files_below(out) == files
