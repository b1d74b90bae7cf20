"""Packs go past the system's cache where they can, and come out the same where they cannot."""

import errno
import gc
import random
from pathlib import Path

import pytest
from kit.direct import Disk
from kit.repository import noise

from archiver.errors import NoSpaceError
from archiver.storage.local import LocalStore
from archiver.storage.staging import LocalStaged

MIB = 1 << 20
PLAIN = noise(9, 8 * MIB)


@pytest.fixture
def disk(monkeypatch) -> Disk:
    return Disk(monkeypatch)


def objects(seed: int) -> list[list[bytes]]:
    """Objects as encoders bring them: small and large ones, each in pieces of any size."""
    draw, at, made = random.Random(seed), 0, []
    while at < len(PLAIN):
        pieces = []
        for _ in range(draw.randrange(1, 30)):
            size = draw.choice([draw.randrange(300), draw.randrange(1, 200_000), MIB])
            pieces.append(PLAIN[at : at + size])
            at += size
        made.append(pieces)
    return made


def publish(root, staged) -> bytes:
    staged.publish("packs/00/x")
    return (root / "packs/00/x").read_bytes()


@pytest.mark.parametrize("seed", range(6))
def test_bytes_come_out_as_they_were_written(root, disk, seed):
    staged = LocalStore(root).stage("pack")
    for pieces in objects(seed):
        staged.write(*pieces)
    assert publish(root, staged) == PLAIN
    assert disk.written > 2 * MIB


@pytest.mark.parametrize("refusal", [errno.EINVAL, errno.EOPNOTSUPP])
def test_a_disk_that_refuses_gets_them_through_the_cache(root, disk, refusal):
    disk.refusal = refusal
    staged = LocalStore(root).stage("pack")
    for pieces in objects(1):
        staged.write(*pieces)
    assert publish(root, staged) == PLAIN
    assert disk.written == 0


def test_a_disk_that_cannot_be_opened_so(root, disk):
    disk.opens = False
    staged = LocalStore(root).stage("pack")
    staged.write(PLAIN)
    assert publish(root, staged) == PLAIN


def test_small_files_never_ask(root, disk):
    staged = LocalStore(root).stage("manifest")
    staged.write(PLAIN[: MIB - 1])
    assert publish(root, staged) == PLAIN[: MIB - 1]
    assert not disk.direct


@pytest.mark.parametrize("at", [1, 4095, 4096, 4097, 2 * MIB, 3 * MIB + 5])
def test_what_is_cut_is_written_on_from_there(root, disk, at):
    staged = LocalStore(root).stage("pack")
    staged.write(PLAIN[: 4 * MIB + 77])
    staged.cut(at)
    staged.write(PLAIN[at : at + 3])
    staged.write(PLAIN[at + 3 :])
    assert publish(root, staged) == PLAIN


def test_a_full_disk_leaves_what_was_whole(root, disk):
    staged = LocalStore(root).stage("pack")
    staged.write(PLAIN[: 2 * MIB + 9])
    disk.refusal = errno.ENOSPC
    with pytest.raises(NoSpaceError):
        staged.write(PLAIN[2 * MIB + 9 :])
    staged.cut(2 * MIB + 9)
    disk.refusal = 0
    staged.write(PLAIN[2 * MIB + 9 :])
    assert publish(root, staged) == PLAIN


def test_a_run_goes_on_in_a_file_that_another_left(root, disk):
    staged = LocalStore(root).stage("pack")
    staged.write(PLAIN[: 2 * MIB + 9])
    staged.keep()
    (leftover,) = LocalStore(root).leftovers("pack")
    assert leftover.size == 2 * MIB + 9
    again = leftover.resume(2 * MIB + 1)
    assert isinstance(again, LocalStaged)
    again.write(PLAIN[2 * MIB + 1 :])
    assert publish(root, again) == PLAIN


def test_no_handle_stays_open(root):
    gc.collect()  # of what other tests left open
    before = len(list(Path("/proc/self/fd").iterdir()))
    for end in ("publish", "keep", "abort"):
        staged = LocalStore(root).stage("pack")
        staged.write(PLAIN)
        staged.publish("packs/00/x") if end == "publish" else getattr(staged, end)()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
