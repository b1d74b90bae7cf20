"""A call that the disk refuses, at any point of any operation: an error that says so, nothing half done."""

from __future__ import annotations

import errno
import os

import pytest
from disk import lay_out, tree_of
from failing import FailingDisk
from scenarios import SCENARIOS, CommandFailedError
from verdict import Judge

EVERY = max(1, 216 // int(os.environ.get("ARCHIVER_TEST_KILLS", "12")))
"""Every so manieth call is refused, one after the other."""
FAULTS = {
    "once": (errno.EIO, False, {1, 3, 20, 21}),
    "full": (errno.ENOSPC, True, {31, 3, 20, 21}),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_refused_call_is_told_and_harms_nothing(tmp_path, capfd, name, fault):
    number, lasting, codes = FAULTS[fault]
    root = tmp_path / "archive"
    root.mkdir()
    step = SCENARIOS[name](root)
    before, judge = tree_of(root), Judge(tmp_path / "states")
    with FailingDisk(root, 0, number, lasting=False) as honest:
        step(root)
    first, last = judge.judge(before), judge.judge(tree_of(root))
    for nth in range(1 + len(name) % EVERY, honest.count + 1, EVERY):
        place = lay_out(before, tmp_path / f"nth{nth}")
        capfd.readouterr()
        code = 0
        with FailingDisk(place, nth, number, lasting=lasting) as disk:
            try:
                step(place)
            except CommandFailedError as error:
                code = error.code
        told = capfd.readouterr().err
        assert code in codes | {0}, (disk.failed, told)
        assert "Traceback" not in told, (disk.failed, told)
        assert "did not expect" not in told, (disk.failed, told)
        assert not disk.synced_again
        now = judge.judge_folder(place, tree_of(place))
        assert not now.problems - first.problems or first.unknown, (disk.failed, now.problems)
        assert now.seals >= first.seals & last.seals, disk.failed
        assert code or not now.problems, (disk.failed, told)
        step(place)
        end = judge.judge_folder(place, tree_of(place))
        assert not end.problems, (disk.failed, end.problems)
        assert len(end.seals) >= len(last.seals), disk.failed
