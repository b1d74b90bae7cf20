"""The folder of a smoke test: what a killed one left, the next one removes, and nothing else."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from archiver.errors import ArchiverError
from archiver.smoke import run as room
from archiver.smoke.run import scratch

HOLD = """
import sys
from archiver.smoke.run import scratch
with scratch() as folder:
    (folder / "config.json").write_text("{}")
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def test_what_a_killed_test_left_is_removed_by_the_next_and_what_lives_stays(temporary: Path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        theirs = Path(other.stdout.readline().strip())
        with scratch() as folder:
            assert (theirs / "config.json").exists()
            assert folder.stat().st_mode & 0o777 == 0o700
        assert list(temporary.iterdir()) == [theirs]
        other.send_signal(signal.SIGKILL)
        other.wait()
        assert (theirs / "config.json").exists()
        with scratch() as folder:
            assert list(temporary.iterdir()) == [folder]
    assert not list(temporary.iterdir())


def test_where_there_are_no_locks_none_is_taken_for_abandoned(temporary: Path, monkeypatch):
    other, asked = temporary / "archiver-smoke-other", []
    other.mkdir()

    def flock(handle: int, how: int) -> None:
        asked.append(how)
        if len(asked) > 9:
            raise RuntimeError("it is tried again and again")
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with scratch() as folder:
        assert folder.exists()
        assert other.exists()
    assert not folder.exists()


def test_links_files_and_what_is_called_otherwise_stay(temporary: Path, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "kept").touch()
    (temporary / "archiver-smoke-link").symlink_to(elsewhere)
    (temporary / "archiver-smoke-file").touch()
    (temporary / "archiver-other").mkdir()
    abandoned = temporary / "archiver-smoke-abandoned"
    (abandoned / "folder").mkdir(parents=True)
    (abandoned / "folder" / "link").symlink_to(elsewhere)
    before = set(temporary.iterdir()) - {abandoned}
    with scratch():
        pass
    assert set(temporary.iterdir()) == before
    assert (elsewhere / "kept").exists()


def test_what_belongs_to_another_user_stays(temporary: Path, monkeypatch: pytest.MonkeyPatch):
    (temporary / "archiver-smoke-abandoned").mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: temporary.stat().st_uid + 1)
    with scratch():
        pass
    assert [one.name for one in temporary.iterdir()] == ["archiver-smoke-abandoned"]


def test_a_folder_that_is_taken_away_before_it_is_locked_is_made_anew(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
):
    new, made = room._new, []

    def taken_once() -> Path:
        folder = new()
        if not made:
            room._remove_abandoned(temporary)
        made.append(folder)
        return folder

    monkeypatch.setattr(room, "_new", taken_once)
    with scratch() as folder:
        assert folder == made[-1]
        assert folder.is_dir()
    assert len(made) == 2


def test_a_folder_that_is_taken_away_while_it_is_locked_is_made_anew(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
):
    locked, seen = room._locked, []

    def too_late(handle: int) -> bool | None:
        if not seen:
            for folder in temporary.iterdir():
                folder.rmdir()
        seen.append(handle)
        return locked(handle)

    monkeypatch.setattr(room, "_locked", too_late)
    with scratch() as folder:
        assert folder.is_dir()


def test_it_is_removed_whatever_was_raised(temporary: Path):
    with pytest.raises(KeyboardInterrupt), scratch():
        raise KeyboardInterrupt
    assert not list(temporary.iterdir())


@pytest.mark.parametrize("chosen", [None, "/nowhere/at/all"])
def test_without_a_folder_for_temporary_files_it_says_what_to_set(monkeypatch, chosen):
    monkeypatch.setattr(tempfile, "tempdir", chosen)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", list)
    with pytest.raises(ArchiverError) as error, scratch():
        pass
    assert "TMPDIR" in error.value.hint
    assert "a file:" not in error.value.message
