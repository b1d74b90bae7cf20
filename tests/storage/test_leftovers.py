"""Leftovers: files whose writers died before they were published, and who may take them."""

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest
from kit import processes
from kit.store import host, publish

from archiver.errors import ArchiverError
from archiver.storage.local import LocalStore

NAME = "packs/ab/abc.pack"


@pytest.fixture
def store(root) -> LocalStore:
    return LocalStore(root)


CHILD = """
import sys
from pathlib import Path
from archiver.storage.local import LocalStore
staged = LocalStore(Path(sys.argv[1])).stage("pack")
staged.write(b"unfinished")
print(staged.path, flush=True)
sys.stdin.read()
"""


def test_only_the_files_of_dead_writers_are_leftovers(store, root):
    child = processes.start(
        [sys.executable, "-c", CHILD, str(root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with child:
        assert child.stdout is not None
        path = Path(child.stdout.readline().strip())
        assert path.exists()
        assert list(store.leftovers("pack")) == []
        child.kill()
    assert path.exists()
    assert list(store.leftovers("put")) == []
    (leftover,) = store.leftovers("pack")
    assert list(store.leftovers("pack")) == []  # it is this run's now
    buffer = bytearray(10)
    leftover.reader().read_into(0, memoryview(buffer))
    assert buffer == b"unfinished"
    leftover.discard()
    leftover.discard()
    leftover.release()
    assert not path.exists()


def test_a_released_leftover_stays_for_another_run(store, root):
    (root / "tmp").mkdir()
    (root / "tmp" / f"pack-{host()}-1-dead").write_bytes(b"x")
    (leftover,) = store.leftovers("pack")
    leftover.release()
    assert len(list(store.leftovers("pack"))) == 1


def test_the_files_of_dead_writers_are_leftovers_whatever_the_machine_was_called(store, root):
    child = processes.start(
        [
            sys.executable,
            "-c",
            f"import socket; socket.gethostname = lambda: '4242'{CHILD}",
            str(root),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with child:
        assert child.stdout is not None
        path = Path(child.stdout.readline().strip())
        assert path.name.startswith("pack-4242-")
        assert list(store.leftovers("pack")) == []
        child.kill()
    (leftover,) = store.leftovers("pack")
    assert (leftover.name, leftover.size) == (path.name, 10)
    leftover.release()


@pytest.fixture
def shared(monkeypatch):
    """The disk is one that other machines may be writing to."""
    for module in ("local", "staging"):
        monkeypatch.setattr(f"archiver.storage.{module}.is_of_one_machine", lambda _root: False)


def test_on_a_shared_disk_files_of_other_machines_are_left_alone_for_a_week(store, root, shared):
    path = root / "tmp" / "pack-elsewhere-1-dead"
    path.parent.mkdir()
    path.write_bytes(b"x")
    now = path.parent.stat().st_mtime
    os.utime(path, (now, now - 6.9 * 86400))
    assert list(store.leftovers("pack")) == []
    os.utime(path, (now, now - 7.1 * 86400))
    (leftover,) = store.leftovers("pack")
    assert leftover.idle == pytest.approx(7.1 * 86400, abs=2)
    leftover.release()


def test_on_a_shared_disk_what_this_machine_left_under_another_name_is_known(
    store, root, shared, monkeypatch
):
    monkeypatch.setattr("socket.gethostname", lambda: "before")
    staged = store.stage("pack")
    monkeypatch.setattr("socket.gethostname", lambda: "after")
    assert list(store.leftovers("pack")) == []
    staged.keep()
    assert len(list(store.leftovers("pack"))) == 1
    monkeypatch.setattr("archiver.storage.staging.machine_token", lambda: "0" * 8)
    assert list(store.leftovers("pack")) == []


def test_without_locks_a_process_that_is_no_more_left_it(store, root, monkeypatch):
    def no_locks(_handle: int, _how: int) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    staged = store.stage("pack")
    staged.keep()
    assert staged.path.name.endswith("-unlocked")
    assert list(store.leftovers("pack")) == []  # this process lives
    dead = processes.start([sys.executable, "-c", ""])
    dead.wait()
    parts = staged.path.name.split("-")
    staged.path.rename(staged.path.with_name("-".join([*parts[:2], str(dead.pid), *parts[3:]])))
    assert len(list(store.leftovers("pack"))) == 1
    other = [*parts[:2], str(dead.pid), parts[3][:-1] + "x", *parts[4:]]
    for path in (root / "tmp").iterdir():
        path.rename(path.with_name("-".join(other)))
    assert list(store.leftovers("pack")) == []  # of another machine, as far as anybody knows


def test_a_purpose_is_no_other_that_begins_alike(store):
    for purpose in ("parity", "parity-blocks"):
        store.stage(purpose).keep()
    for purpose in ("parity", "parity-blocks"):
        (leftover,) = store.leftovers(purpose)
        assert leftover.name.startswith(f"{purpose}-{host()}-")
        leftover.release()


def test_a_file_published_between_the_look_and_the_lock_is_no_leftover(store, root, monkeypatch):
    (root / "tmp").mkdir()
    path = root / "tmp" / f"pack-{host()}-1-dead"
    path.write_bytes(b"x")
    honest = fcntl.flock

    def flock(handle: int, how: int) -> None:
        path.rename(root / "published")
        honest(handle, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    assert list(store.leftovers("pack")) == []
    assert (root / "published").exists()


def test_a_writer_whose_file_was_locked_by_another_run_begins_again(store, root, monkeypatch):
    honest, count = fcntl.flock, 0

    def flock(handle: int, how: int) -> None:
        nonlocal count
        count += 1
        if count == 1:
            raise BlockingIOError(errno.EAGAIN, "taken")
        honest(handle, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    publish(store)
    assert count == 2
    assert (root / NAME).read_bytes() == b"data"
    assert list((root / "tmp").iterdir()) == []


# Leftovers that are gone on with


def test_a_leftover_is_gone_on_with_in_its_place(store, root):
    staged = store.stage("pack")
    staged.write(b"whole torn")
    staged.keep()
    staged.keep()
    staged.abort()
    (leftover,) = store.leftovers("pack")
    resumed = leftover.resume(6)
    leftover.release()
    assert list(store.leftovers("pack")) == []  # it has a living writer
    resumed.write(b"end")
    resumed.publish(NAME)
    assert (root / NAME).read_bytes() == b"whole end"
    assert list((root / "tmp").iterdir()) == []


def test_what_could_not_be_synced_is_not_kept(store, root, monkeypatch):
    staged = store.stage("pack")
    staged.write(b"x")

    def fsync(_handle: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(ArchiverError):
        staged.publish(NAME)
    staged.keep()
    assert list((root / "tmp").iterdir()) == []
