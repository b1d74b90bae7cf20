"""A night as a process of its own: it is told to end, its window does, a mount dies, two run at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest
from kit.cli import Result
from kit.disks import skip_unless_mountable, stoppable_mount
from kit.worklog import wait_until

from archiver.archive.archive import Archive
from archiver.loopback.faults import Fault

GUARD_SECONDS = 300.0
AT_THE_END = """
import sys
from datetime import UTC, datetime

from archiver import text
from archiver.cli import main

text._machine_clock = lambda: datetime(2026, 12, 1, 1, 59, 58, tzinfo=UTC)
main.run(sys.argv[1:])
"""
"""A night that begins two seconds before its window ends, however long it takes to start."""


def step(result, name):
    (found,) = [each for each in result.kinds("step") if each["step"] == name]
    return found


def held(archive):
    return sorted(one.seal.repository for one in Archive.open(archive.root).snapshots())


@pytest.fixture
def silent_hub(repositories, monkeypatch):
    """A hub that falls silent in the middle of the weights of the second repository."""
    monkeypatch.setenv("ARCHIVER_TIMEOUT", "3600")
    monkeypatch.setenv("ARCHIVER_LEAST_RATE", "0")
    repositories.silence = repositories.faults.add(
        Fault("stall", repository="org/b", path="weights.bin", after=1000, seconds=3600, times=None)
    )
    return repositories


@contextmanager
def guarded(kill):
    """Nothing in the block may wait for the hub."""
    late = threading.Event()
    guard = threading.Timer(GUARD_SECONDS, lambda: (late.set(), kill()))
    guard.start()
    yield
    guard.cancel()
    assert not late.is_set()


def goes_on(night, path, hub, archive):
    """The next night brings what the one before did not, and all of it is whole."""
    hub.faults.clear()
    result = night(path)
    assert (result.code, held(archive)) == (0, ["org/a", "org/b", "org/c"]), result.out


def words(archive, path):
    return ("night", "-q", "--json", "-C", archive.root, "--min-free", "0B", path)


def test_a_night_that_is_told_to_end_in_the_middle_of_a_repository(
    night, zygote, silent_hub, archive, plan, run
):
    path = plan("org/a", "org/b", "org/c", night='audit = { share = "100%" }\nreport = true')
    child = zygote.start(*words(archive, path))
    with guarded(child.kill):
        wait_until(lambda: silent_hub.silence.hits)
        os.kill(child.pid, signal.SIGTERM)
        result = child.wait()
    assert result.code == 130, result.err
    assert "Traceback" not in result.err
    told = result.only("night")
    assert (told["cut"], step(result, "sync")["outcome"]) == ("stopped", "cut")
    assert step(result, "report")["outcome"] == "idle", "what takes a moment is still done"
    assert held(archive) == ["org/a"], "nothing half-done is there"
    assert json.loads(archive.documents("journal")[-1].read_bytes()), "its journal can be read"
    goes_on(night, path, silent_hub, archive)
    assert run("audit", "-q", "-C", archive.root, "--level", "files").code == 0


def test_a_night_whose_window_ends_in_the_middle_of_a_repository(
    night, silent_hub, archive, plan, clock
):
    head = 'window = "01:00-02:00"\ntimezone = "UTC"'
    path = plan("org/a", "org/b", "org/c", head=head, night='audit = { share = "100%" }')
    command = [sys.executable, "-c", AT_THE_END, *map(str, words(archive, path))]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with guarded(process.kill):
        result = Result(0, *process.communicate())
    assert process.returncode == 0, result.err
    told = result.only("night")
    assert (told["cut"], told["verdict"].endswith("; its window ended")) == ("window", True)
    assert step(result, "audit")["outcome"] == "cut"
    assert set(held(archive)) <= {"org/a"}
    clock.forward(days=1)
    goes_on(night, path, silent_hub, archive)


def test_a_second_night_that_begins_while_one_runs(night, zygote, silent_hub, archive, plan):
    path = plan("org/a", "org/b")
    child = zygote.start(*words(archive, path))
    with guarded(child.kill):
        wait_until(lambda: silent_hub.silence.hits)
        second = night(path)
        assert (second.code, second.kinds("night")) == (11, [])
        assert f"process {child.pid}" in second.only("error")["message"]
        other = night(plan("org/c", name="other"))
        assert other.code == 0, "another plan's is no hindrance"
        os.kill(child.pid, signal.SIGTERM)
        assert child.wait().code == 130
    silent_hub.faults.clear()
    assert night(path).code == 0


def test_a_copy_whose_mount_is_dead_holds_up_no_night(
    night, run, clock, repositories, archive, plan, tmp_path, monkeypatch
):
    skip_unless_mountable()
    monkeypatch.setattr("archiver.archive.place_look.LOOK_SECONDS", 2.0)
    with stoppable_mount(tmp_path, GUARD_SECONDS) as dead:
        copy = dead.folder / "copy"
        assert run("copy", "-q", "-C", archive.root, "--new", copy, "--min-free", "0B").code == 0
        path = plan(
            "org/a",
            night=f'copies = ["{copy}"]\naudit = {{ share = "100%" }}\nreport = true\n'
            'prometheus = "archiver.prom"',
        )
        assert night(path).code == 0
        repositories.commit("org/a", {"more.bin": b"new"})
        clock.forward(days=1)
        with dead():
            result = night(path)
        assert result.code == 0, result.out
        steps = [step(result, name)["outcome"] for name in ("sync", "copies", f"audit of {copy}")]
        assert steps == ["done", "away", "skipped"]
        assert "gave no answer" in step(result, "copies")["errors"][0]["message"]
        back = night(path)
        assert step(back, "copies")["counts"]["brought"] == 1
