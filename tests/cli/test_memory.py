"""How much memory a run may take, and how many threads follow from it."""

import pytest

from archiver import memory
from archiver.memory import BUDGET, MemoryBudget

MB = 1_000_000


def test_there_is_a_thread_a_core_as_far_as_there_is_room(monkeypatch):
    monkeypatch.setattr(memory, "resident_bytes", lambda: 70 * MB)
    each = 50 * MB
    assert MemoryBudget(BUDGET, 2).workers(each) == 2
    few = MemoryBudget(BUDGET, 16).workers(each)
    assert 2 < few < 16
    assert MemoryBudget(BUDGET, 64).workers(each) == few
    assert MemoryBudget(4_000 * MB, 64).workers(each) == 64
    assert MemoryBudget(BUDGET, 64).workers(each, shared=100 * MB) < few
    assert MemoryBudget(BUDGET, 64).workers(each, kept=200 * MB) < few


def test_there_is_always_one_thread():
    assert MemoryBudget(1, 64).workers(50 * MB) == 1
    assert MemoryBudget(1, 64).room() == 0


@pytest.mark.parametrize(
    "command",
    [
        ["verify", ".", "--manifest", "m"],
        ["repair"],
        ["copy", "x"],
        ["audit"],
        ["restore", "Org/Name", "x"],
    ],
)
def test_too_little_is_refused(cli, tmp_path, command):
    assert cli("init", "-C", tmp_path / "weights").code == 0
    done = cli(*command, "-C", tmp_path / "weights", "--memory", "199MB")
    assert done.code == 2
    assert "must be at least 200 MB" in done.err


def test_memory_is_told_by_the_system():
    assert 10 * MB < memory.resident_bytes() < 100_000 * MB
