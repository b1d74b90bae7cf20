"""The matrix notices each single sync that is left out of publishing: so it would notice a real one."""

from __future__ import annotations

import pytest
from matrix import Matrix, ViolationError, record
from scenarios import SCENARIOS
from syscalls import Entries, Event, Sync, SyncFolder
from verdict import Judge

from archiver.storage import local
from archiver.storage.local import LocalStore


@pytest.fixture(scope="module")
def matrix(tmp_path_factory) -> Matrix:
    place = tmp_path_factory.mktemp("mutants")
    root = place / "archive"
    root.mkdir()
    step = SCENARIOS["two_imports"](root)
    return Matrix(record(step, root), Judge(place / "states"))


def published(log: list[Event], below: str) -> set[int]:
    """The inodes of files that get a name below a folder."""
    return {
        inode
        for event in log
        if isinstance(event, Entries)
        for path, inode in event.changes.items()
        if inode is not None and path.startswith(f"{below}/")
    }


def without_data_sync(log: list[Event], below: str) -> list[Event]:
    files = published(log, below)
    return [one for one in log if not (isinstance(one, Sync) and one.inode in files)]


def without_folder_sync(log: list[Event], below: str) -> list[Event]:
    return [
        one
        for one in log
        if not (isinstance(one, SyncFolder) and f"{one.folder}/".startswith(f"{below}/"))
    ]


@pytest.mark.parametrize(
    ("mutate", "below", "harm"),
    [
        (without_data_sync, "packs", "cannot be restored"),
        (without_folder_sync, "packs", "cannot be restored"),
        (without_data_sync, "manifests", "has no manifest"),
        (without_folder_sync, "manifests", "has no manifest"),
        (without_data_sync, "snapshots", "is damaged"),
        (without_folder_sync, "snapshots", "is gone"),
        (without_data_sync, "journal", "is not what its name says"),
        (without_folder_sync, "journal", "is gone"),
    ],
)
def test_a_sync_that_is_left_out_is_noticed(matrix, mutate, below, harm):
    log = matrix.recording.log
    mutant = mutate(log, below)
    assert len(mutant) < len(log)
    assert any(harm in one for one in matrix.violations(mutant))


def test_a_root_that_is_not_synced_is_noticed(matrix):
    log = [one for one in matrix.recording.log if one != SyncFolder("")]
    assert any("cannot be restored" in one for one in matrix.violations(log))


@pytest.mark.parametrize(("name", "every"), [("two_imports", 7), ("copy_to_a_new_folder", 11)])
def test_a_run_that_trusts_what_a_killed_one_did_not_sync_is_noticed(
    tmp_path, monkeypatch, name, every
):
    monkeypatch.setattr(LocalStore, "barrier", lambda _self, names=(): list(names))
    root = tmp_path / "archive"
    root.mkdir()
    step = SCENARIOS[name](root)
    matrix = Matrix(record(step, root), Judge(tmp_path / "states"))
    matrix.check()
    with pytest.raises(ViolationError):
        matrix.check_killed(step, tmp_path / "killed", every)


def test_a_second_name_that_is_not_synced_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(local, "sync_up", lambda _path, _root: None)
    root = tmp_path / "archive"
    root.mkdir()
    step = SCENARIOS["forget"](root)
    matrix = Matrix(record(step, root), Judge(tmp_path / "states"))
    assert any("lost all its names" in one for one in matrix.violations())
