"""Volumes that are cut off while they are written; media that go away while they are written or read."""

from __future__ import annotations

import errno
import json
import os
import shutil
from typing import TYPE_CHECKING

import pytest
from disk import Tree, lay_out
from failing import FailingDisk, LostMedium
from kit.cli import invoke
from kit.repository import files_below
from matrix import Matrix, record
from scenarios import MODELS, CommandFailedError, beside, bring, command, held, media
from syscalls import Sync
from verdict import Verdict

if TYPE_CHECKING:
    from pathlib import Path

    from matrix import Step

ROUNDS = max(1, int(os.environ.get("ARCHIVER_TEST_KILLS", "12")) // 12)
POINTS = 6 * ROUNDS
"""So many looks at a medium, or changes of it, are the first that fails."""
GONE = {"unplugged": errno.ENODEV, "unreadable": errno.EIO}


class VolumeJudge:
    """Judges volumes as a crash left them: one that says it is whole is."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._states: dict[object, Verdict] = {}

    def judge(self, tree: Tree) -> Verdict:
        key = frozenset(tree.items())
        if key not in self._states:
            root = self._root / f"state{len(self._states)}"
            self._states[key] = self.judge_folder(lay_out(tree, root), tree)
            shutil.rmtree(root)
        return self._states[key]

    def judge_folder(self, root: Path, tree: Tree) -> Verdict:
        whole = frozenset(path for path in tree if path.endswith("/volume.json"))
        wrong = {
            f"{path} lies"
            for path in whole
            if invoke("bundle", "verify", "-q", "--part", (root / path).parent)
        }
        return Verdict(whole, frozenset(), frozenset(wrong))


def exporting(source: Path) -> Step:
    names = sorted({path.name[:40] for path in (source / "snapshots").rglob("*.json")})
    chosen = [f"org/model@{revision}" for revision in names]
    words = ("--volume-size", "32MiB", "--parity", "2")
    return lambda to: command("bundle", "export", "-q", "-C", source, *chosen, "--to", to, *words)


def test_a_volume_that_says_it_is_whole_is(tmp_path, monkeypatch):
    (tmp_path / "scratch").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    root = tmp_path / "to"
    root.mkdir()
    step = exporting(beside(root, "source"))
    recording = record(step, root)
    judge = VolumeJudge(tmp_path / "states")
    matrix = Matrix(recording, judge, outside=("tmp/", "volume-0001/tmp/"))
    matrix.check()
    calls = len(recording.log)
    matrix.check_killed(step, tmp_path / "killed", max(1, calls // (4 * ROUNDS)))
    matrix.check_again(step, tmp_path / "again", 4 * ROUNDS)
    assert matrix.tried > calls
    unsynced = [event for event in recording.log if not isinstance(event, Sync)]
    late = len(unsynced) - 6  # volume.json comes last
    assert any("lies" in wrong for wrong in matrix.violations(unsynced, late))


@pytest.mark.parametrize("fault", GONE)
def test_a_medium_that_goes_away_while_it_is_written(tmp_path, capfd, fault):
    step = exporting(lay_out(held(), tmp_path / "source"))
    to = tmp_path / "to"
    with FailingDisk(to, 0, 0, lasting=False) as honest:
        step(to)
    shutil.rmtree(to)
    assert honest.count > POINTS
    for nth in range(1, honest.count, max(1, honest.count // POINTS)):
        capfd.readouterr()
        code = 0
        with FailingDisk(to, nth, GONE[fault], lasting=True) as disk:
            try:
                step(to)
            except CommandFailedError as error:
                code = error.code
        told = capfd.readouterr().err
        assert code in {1, 3, 20}, (disk.failed[:1], told)
        assert "Traceback" not in told
        assert "did not expect" not in told, (disk.failed[:1], told)
        step(to)
        assert invoke("bundle", "verify", "-q", to) == 0
        shutil.rmtree(to)


def audited(archive: Path, level: str) -> None:
    if (archive / "archive.json").exists():
        command("audit", "-q", "-C", archive, "--level", level)


@pytest.mark.parametrize("fault", GONE)
def test_a_medium_that_goes_away_while_it_is_imported(tmp_path, capfd, fault):
    """Whatever was read of it: nothing half of it is seen, and the same command goes on."""
    volumes = media(tmp_path / "far")
    with LostMedium(volumes[0].parent, 0, 0) as honest:
        bring(tmp_path / "honest", *volumes)
    assert honest.count > POINTS
    for nth in range(1, honest.count, max(1, honest.count // POINTS)):
        far = tmp_path / f"far{nth}"
        capfd.readouterr()
        code = 0
        with LostMedium(volumes[0].parent, nth, GONE[fault]):
            try:
                bring(far, *volumes)
            except CommandFailedError as error:
                code = error.code
        told = capfd.readouterr().err
        assert code in {1, 2, 3, 20, 22}, (nth, told)
        assert "Traceback" not in told
        assert "did not expect" not in told, (nth, told)
        audited(far, "content")
        bring(far, *volumes)
        audited(far, "files")
        assert not (far / "bundles" / "waiting").exists()
        out = tmp_path / f"out{nth}"
        command("restore", "-q", "-C", far, "org/large", out)


@pytest.mark.parametrize("fault", GONE)
def test_a_medium_that_goes_away_while_files_come_from_it(tmp_path, capfd, fault):
    """What has its name is right, what has not is named, and the same command goes on."""
    volumes = media(tmp_path / "any")
    wanted = MODELS["two"]
    size = sum(map(len, wanted.values()))
    seals = (volumes[0] / "snapshots/org/model").iterdir()
    (seal,) = (path for path in seals if json.loads(path.read_bytes())["totals"]["bytes"] == size)
    words = ("--snapshot", f"org/model@{seal.name[:40]}")
    with LostMedium(volumes[0].parent, 0, 0) as honest:
        command("bundle", "restore", "-q", *volumes, tmp_path / "honest", *words)
    assert files_below(tmp_path / "honest") == wanted
    for nth in range(1, honest.count, max(1, honest.count // POINTS)):
        out = tmp_path / f"out{nth}"
        capfd.readouterr()
        with LostMedium(volumes[0].parent, nth, GONE[fault]):
            code = invoke("bundle", "restore", "-q", *volumes, out, *words)
        told = capfd.readouterr()
        assert "Traceback" not in told.err
        assert "did not expect" not in told.err, (nth, told)
        there = files_below(out) if out.exists() else {}
        assert there.items() <= wanted.items()
        assert code or there == wanted
        assert code in {0, 1, 2, 3, 20}, (nth, told)
        command("bundle", "restore", "-q", *volumes, out, *words)
        assert files_below(out) == wanted
