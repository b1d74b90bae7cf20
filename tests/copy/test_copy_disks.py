"""Disks that are full or may only be read, and runs that are killed at any point."""

from __future__ import annotations

import itertools
import json
import shutil
from contextlib import ExitStack

import pytest
from copykit import events, ids, stored
from kit.disks import fill, memory_disk, read_only

from archiver.archive.records import canonical

MIB = 1 << 20


@pytest.fixture
def disk(tmp_path):
    """A disk of 4 MiB."""
    with memory_disk(tmp_path / "disk", 4 * MIB) as folder:
        yield folder


@pytest.fixture
def freeze():
    """Makes folders read-only."""
    with ExitStack() as mounts:
        yield lambda folder: mounts.enter_context(read_only(folder))


def test_a_disk_that_is_too_small_is_told_at_once(source, copy, disk):
    fill(disk, 400_000)
    result = copy(to=disk / "copy")
    assert result.code == 31
    assert "are to be copied" in result.err
    assert not (disk / "copy").exists()


@pytest.mark.parametrize("left", [0, 4096, 20_000, 40_000, 100_000, 350_000, 400_000, 650_000])
def test_a_disk_that_becomes_full(source, copy, disk, run, left, monkeypatch):
    monkeypatch.setattr("archiver.operations.copy.run.require_room", lambda *room: None)
    ballast = fill(disk, left)
    to = disk / "copy"
    result = copy(to=to)
    assert result.code == 31
    assert not list(to.glob("snapshots/*/*/*"))
    assert not list(to.glob("tmp/*"))
    ballast.unlink()
    assert copy(to=to).code == 0
    assert ids(to) == source.ids()
    assert run("audit", "-q", "-C", to).code == 0


def test_a_source_that_may_only_be_read(source, target, run, freeze):
    before = stored(source.root)
    freeze(source.root)
    result = run("copy", "-C", source.root, "--new", target)
    assert result.code == 0, result.err
    assert "cannot be written to" in result.err
    assert ids(target) == source.ids()
    assert len(events(target, "copied")) == 1
    assert stored(source.root) == before


def test_it_is_told_later_where_it_could_not_be_written(source, target, run, copy, freeze):
    with_mount = source.copied(source.root.with_name("frozen"))
    freeze(with_mount.root)
    copy("--from-as", "a", "--as", "b", of=with_mount)
    assert not events(source.root, "copied")
    assert copy("--from-as", "a", "--as", "b").only("copy")["journalled_source"]
    assert len(events(source.root, "copied")) == 1
    (recorded,) = {canonical(event.fields) for event in events(target, "copied")}
    assert events(source.root, "copied")[0].fields == json.loads(recorded)


@pytest.mark.parametrize("there", [False, True])
def test_a_target_that_may_only_be_written_to_by_nobody(source, target, copy, freeze, there):
    target.mkdir()
    if there:
        copy("--snapshot", "org/one")
    freeze(target)
    before = stored(target)
    result = copy()
    assert result.code == 1
    assert "ead-only" in result.err
    assert str(target) in result.err
    assert stored(target) == before


# ---- kill -9


def test_killed_at_any_change_of_the_disk(pristine, target, copy, run, zygote):
    """Dies before the n-th file operation below the target, until a run needs fewer than that."""
    deaths = 0
    for step in itertools.count(1, 9):
        source = pristine.copied(target.with_name(f"source{step}"))
        to = target.with_name(f"target{step}")
        command = ("copy", "-q", "-C", source.root, "--new", to)
        ended = zygote.run(*command, die_at=step, below=str(to))
        if not ended.code:
            break
        assert ended.code == -9
        deaths += 1
        for one in ids(to) if (to / "archive.json").exists() else ():
            assert one in source.ids()
            assert run("audit", "-q", "-C", to).code == 0
        again = copy(to=to, of=source)
        assert again.code == 0, again
        assert {path.name for path in (to / "tmp").iterdir()} <= {"reserve"}
        assert ids(to) == source.ids()
        assert run("audit", "-q", "-C", to).code == 0
        assert {one for event in events(to, "copied") for one in event.fields["snapshots"]} == ids(
            to
        )
        shutil.rmtree(to)
        shutil.rmtree(source.root)
    assert deaths > 10


def test_two_copies_at_once(source, target, run, zygote):
    command = ("copy", "-q", "-C", source.root, "--new", target)
    children = [zygote.start(*command) for _ in range(4)]
    ended = [child.wait() for child in children]
    assert 0 in {one.code for one in ended}
    assert not [one for one in ended if "Traceback" in one.err]
    assert run(*command).code == 0
    assert ids(target) == source.ids()
    assert run("audit", "-q", "-C", target).code == 0
