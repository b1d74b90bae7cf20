"""A crash at any moment of any operation: what the archive shows afterwards is true, and it goes on."""

from __future__ import annotations

import os

import pytest
from matrix import Matrix, record
from scenarios import SCENARIOS
from verdict import Judge

ROUNDS = max(1, int(os.environ.get("ARCHIVER_TEST_KILLS", "12")) // 12)
EVERY = max(1, 6 // ROUNDS)
"""Every so manieth call is the last of a run that is killed before the power fails."""
FEW = {"bundle_import": 2, "bundle_import_one_by_one": 2}
"""Of these so many runs are killed: names that wait are made durable together, so one has many states."""
AGAIN = 6 * ROUNDS
"""States from which the operation is run again."""


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_state_that_a_crash_may_leave(tmp_path, name):
    root = tmp_path / "archive"
    root.mkdir()
    step = SCENARIOS[name](root)
    matrix = Matrix(record(step, root), Judge(tmp_path / "states"))
    matrix.check()
    calls = len(matrix.recording.log)
    every = calls // (FEW[name] * ROUNDS) if name in FEW else EVERY
    matrix.check_killed(step, tmp_path / "killed", max(1, every))
    matrix.check_again(step, tmp_path / "again", AGAIN)
    assert matrix.tried > len(matrix.recording.log)
