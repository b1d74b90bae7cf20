"""Disks that have no modes, no locks, no shared memory, no sync of folders: all of it works, or is told."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from errno import EIO, ENODEV, ENOLCK, ENOSPC, ENOSYS, ENOTSUP, EPERM
from pathlib import Path

import pytest
from diskkit import Disk
from kit.repository import files_below

from archiver.storage.filesystem import limits_of

KINDS = {
    "exFAT, FAT": {"fchmod": EPERM, "fchown": EPERM, "link": EPERM},
    "network": {"flock": ENOLCK, "fcntl_lock": ENOLCK, "fchmod": ENOTSUP},
    "FUSE": {
        "fchmod": ENOSYS,
        "flock": ENOSYS,
        "fcntl_lock": ENOSYS,
        "mmap_shared": ENODEV,
        "fsync_folder": ENOSYS,
        "no_blocks": 0,
    },
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_life_on_such_a_disk(whole_life, kind):
    refused = whole_life(KINDS[kind])
    # Nobody asks for what is known not to be there.
    assert refused >= KINDS[kind].keys() - {"fchown", "mmap_shared"}


@pytest.fixture
def archive(disk):
    assert disk.run("init", "-q", "-C", disk.root).code == 0
    return disk.root


@pytest.fixture
def take_in(disk, model):
    words = ("import", "-C", disk.root, model, "--as", "org/model", "--min-free", "0")
    return lambda **refuse: disk.run(*words, refuse=refuse)


@pytest.mark.parametrize("kind", KINDS)
def test_copying_and_restoring_to_such_a_disk(disk, archive, take_in, model, tmp_path, kind):
    assert take_in().code == 0
    other = Disk(tmp_path / "other" / "copy", disk.library)
    done = other.run("copy", "-C", archive, other.root, "--new", refuse=KINDS[kind])
    assert done.code == 0, done
    assert other.refused() >= KINDS[kind].keys() & {"fchmod", "flock", "fsync_folder"}
    assert done.err.count("no locks") == ("flock" in KINDS[kind])
    assert done.err.count("power cut") == ("fsync_folder" in KINDS[kind])
    assert other.run("audit", "-C", other.root).code == 0
    out = Disk(tmp_path / "out", disk.library)
    done = out.run("restore", "-C", archive, "org/model", out.root, refuse=KINDS[kind])
    assert done.code == 0, done
    assert "restored 2 files" in done.out
    assert files_below(out.root) == files_below(model)


@pytest.mark.parametrize("refuse", [{"fsync_folder": EIO}, {"fsync_file": EIO}])
def test_a_disk_that_fails_is_no_disk_that_lacks_something(archive, take_in, refuse):
    done = take_in(**refuse)
    assert done.code == 1, done
    assert "Input/output error" in done.err
    assert not list((archive / "snapshots").rglob("*.json"))


def test_what_a_power_cut_may_lose_is_told_whenever_something_is_added_and_by_status(
    archive, disk, take_in
):
    refuse = {"fsync_folder": ENOTSUP}
    done = take_in(**refuse)
    assert done.code == 0
    assert done.err.count("power cut") == 1
    told = disk.run("status", "-C", archive, refuse=refuse)
    assert "power cut" in told.out
    (row,) = disk.run("--json", "status", "-C", archive, refuse=refuse).kinds("limit")
    assert row["limit"] == "folder-sync"
    assert "power cut" not in disk.run("status", "-C", archive).out


def test_no_locks_are_told_and_adding_goes_on(archive, disk, take_in):
    done = take_in(flock=ENOLCK)
    assert done.code == 0
    assert done.err.count("no locks") == 1
    assert disk.refused() == {"flock"}
    assert limits_of(archive) == frozenset()


def test_without_locks_a_file_stands_in_where_something_is_deleted(archive, disk, take_in):
    assert take_in().code == 0
    held = archive / "tmp" / "aside.lock.held"
    held.write_text(json.dumps({"pid": 4242, "host": "nas", "since": "2026-11-29T00:00:00Z"}))
    for refuse in ({"flock": ENOLCK}, {}):
        for words in (("forget", "org/model"), ("prune",), ("repair",)):
            done = disk.run(*words, "-C", archive, refuse=refuse)
            assert done.code == 11, done
            assert f"rm {held}" in done.err
            assert "process 4242 on nas" in done.err
    held.unlink()
    assert disk.run("forget", "org/model", "-C", archive, refuse={"flock": ENOLCK}).code == 0
    assert not held.exists()


@pytest.mark.usefixtures("by_catalogue")
def test_an_index_made_elsewhere_is_used_where_sqlite_has_no_locks(archive, disk, take_in, home):
    (archive / "catalogue.sqlite").unlink()
    assert take_in(fcntl_lock=ENOLCK).code == 0
    assert not (archive / "catalogue.sqlite").exists()
    (elsewhere,) = (home / ".cache/archiver").glob("*.sqlite")
    with closing(sqlite3.connect(elsewhere)) as connection:
        assert connection.execute("SELECT count(*) FROM snapshots").fetchone() == (1,)
    done = disk.run("catalogue", "rebuild", "-C", archive, refuse={"fcntl_lock": ENOLCK})
    assert str(elsewhere) in done.out


@pytest.mark.usefixtures("by_catalogue")
def test_without_shared_memory_the_index_has_another_journal(archive, disk, take_in):
    assert take_in(mmap_shared=ENODEV).code == 0
    assert "mmap_shared" in disk.refused()
    with closing(sqlite3.connect(archive / "catalogue.sqlite")) as connection:
        assert connection.execute("SELECT count(*) FROM snapshots").fetchone() == (1,)
        assert connection.execute("PRAGMA journal_mode").fetchone() != ("wal",)


def test_an_index_that_can_lie_nowhere_is_held_in_memory(archive, disk, take_in, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    env = {"XDG_CACHE_HOME": str(blocked), "TMPDIR": str(blocked)}
    assert take_in().code == 0
    done = disk.run(
        *("--json", "stats", "-C", archive), refuse={"fcntl_lock": ENOLCK}, env=env, cwd=tmp_path
    )
    assert done.code == 0, done
    assert done.kinds("stats")[0]["snapshots"] == 1


@pytest.mark.usefixtures("by_catalogue")
@pytest.mark.parametrize(
    ("call", "number", "after"),
    [("write", ENOSPC, 12), ("write", EIO, 28)],
)
def test_an_index_that_fails_in_the_middle_of_a_run_stops_nothing(
    archive, disk, take_in, model, tmp_path, call, number, after
):
    assert take_in().code == 0
    (model / "config.json").write_text("[]")
    failing = {"refuse": {call: number}, "named": "catalogue.sqlite", "after": after}
    refused = []
    for words in (
        ("import", model, "--as", "org/model", "--min-free", "0"),
        ("audit",),
        ("repair",),
        ("stats",),
        ("restore", "org/model", tmp_path / "out"),
        ("forget", "org/model", "--all"),
        ("prune", "--grace", "0d"),
    ):
        done = disk.run(words[0], "-C", archive, *words[1:], **failing)
        assert done.code == 0, (words, done)
        refused += disk.refused()
    assert call in refused
    assert files_below(tmp_path / "out") == files_below(model)
    assert disk.run("audit", "-C", archive).code == 0


@pytest.mark.usefixtures("by_catalogue")
def test_a_run_that_waits_for_the_index_ends_when_it_is_told_to(archive, disk, model):
    """Held by another process, as long as that likes."""
    with closing(sqlite3.connect(archive / "catalogue.sqlite")) as other:
        other.execute("BEGIN IMMEDIATE")
        words = ("import", "-C", archive, model, "--as", "org/model", "--min-free", "0")
        process = disk.start(*words)
        deadline = time.monotonic() + 60
        while not _waits(process.pid, archive) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert process.poll() is None, "it waits"
        before = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
        assert process.returncode == 130
        # SQLite itself waits for half a second; the rest is for a machine that is busy.
        assert time.monotonic() - before < 30


def test_a_signal_whose_exception_is_lost_ends_a_run_all_the_same(archive, model, cli):
    """Python has nobody to raise it to, in what is called back."""
    assert cli("catalogue", "rebuild", "-C", archive).code == 0
    words = ("import", "-C", archive, model, "--as", "org/model", "--min-free", "0")
    command = [sys.executable, "-m", "kit.lost_signal", *map(str, words)]
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    with closing(sqlite3.connect(archive / "catalogue.sqlite")) as other:
        other.execute("BEGIN IMMEDIATE")
        done = subprocess.run(
            command, env=env, capture_output=True, text=True, timeout=120, check=False
        )
    assert "Exception ignored" in done.stderr
    assert "archiver: Interrupted." in done.stderr
    assert done.returncode == 130


def _waits(process: int, archive) -> bool:
    """Whether the process has the index open."""
    try:
        opened = {str(one.readlink()) for one in Path(f"/proc/{process}/fd").iterdir()}
    except OSError:
        return False
    return str(archive / "catalogue.sqlite") in opened


def test_a_disk_that_does_not_tell_its_size_is_not_full(archive, disk, model, tmp_path):
    words = ("import", "-C", archive, model, "--as", "org/model")
    assert disk.run(*words, refuse={"no_blocks": 0}).code == 0
    assert disk.refused() == {"no_blocks"}
    out = disk._replace(root=tmp_path / "other")
    out.root.mkdir()
    words = ("restore", "-C", archive, "org/model", out.root / "out")
    assert out.run(*words, refuse={"no_blocks": 0}).code == 0
    assert out.refused() == {"no_blocks"}


def test_inodes_that_are_gone_are_told_as_that(archive, disk, take_in):
    done = take_in(create=28, no_inodes=0)
    assert done.code == 31
    assert "No inodes are left" in done.err
    assert "No inodes" not in take_in(create=28).err
