"""kill -9 at any point: the next run ends with a complete snapshot and fetches only what is missing."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal

import pytest
from kit.archive import seals
from kit.repository import REPO, WEIGHTS, bf16, model, safetensors
from kit.worklog import resumable_bytes, tmp_names, wait_until

from archiver.loopback.faults import Fault

TENSORS = 16
MIB = 1 << 20
POINTS = int(os.environ.get("ARCHIVER_TEST_KILLS", "12"))
BATCH = 4 * MIB
"""What the way in hands on at once; with one core and one file at a time, three may be on their way."""
UNFINISHED = 3 * BATCH + 6 * MIB
"""Batches that were read but not resumable_bytes, and what the kernel's socket buffers can hold."""


@pytest.fixture(scope="module")
def big() -> dict[str, bytes]:
    """A model of 20 tensors of 1 MiB each."""
    tensors = {f"t{n:02}": ("BF16", (512, 1024), bf16(n, 512, 1024)) for n in range(TENSORS)}
    return model() | {WEIGHTS: safetensors(tensors)}


@pytest.fixture
def start(zygote, archive):
    """Starts a mirroring process."""

    def starting(*arguments, **hooks):
        one = ("--jobs", 1, "--connections", 1, "--effort", "fast")
        command = ("mirror", "-C", archive, REPO, *one, *arguments)
        return zygote.start(*command, cores=1, **hooks)

    return starting


def sent(hub) -> int:
    return sum(record.sent for record in hub.requests.bodies() if record.file == WEIGHTS)


def withhold(hub, after: int) -> None:
    """Once, so much of the weights is sent, and no more: nobody is done before he is killed."""
    hub.faults.add(Fault("stall", path=WEIGHTS, route="cdn", after=after, seconds=600))


@pytest.mark.parametrize("point", range(1, POINTS + 1))
def test_killed_during_the_download(hub, big, archive, start, restores, point):
    hub.create(REPO, big)
    size = len(big[WEIGHTS])
    hub.rate = 60_000_000
    withhold(hub, size - 1)
    first = start()
    wait_until(lambda: sent(hub) >= size * point // (POINTS + 1))
    first.kill()
    assert first.wait().code == -9
    assert not seals(archive)
    taken, kept = sent(hub), resumable_bytes(archive)
    assert kept >= min(taken, size) - UNFINISHED
    hub.requests.clear()
    hub.rate = None
    assert start().wait().code == 0
    assert sent(hub) == size - kept
    assert len(seals(archive)) == 1
    assert tmp_names(archive) == []
    restores(archive, big)


def test_killed_again_and_again(hub, big, archive, start, restores):
    hub.create(REPO, big)
    hub.rate = 60_000_000
    kept = rounds = total = 0
    while not seals(archive):
        hub.requests.clear()
        withhold(hub, 6 * MIB)
        run = start()
        wait_until(lambda known=kept: resumable_bytes(archive) > known + 3 * MIB or seals(archive))
        run.kill()
        assert run.wait().code in {0, -9}
        assert resumable_bytes(archive) > kept or seals(archive)
        kept, rounds, total = resumable_bytes(archive), rounds + 1, total + sent(hub)
    assert rounds > 2
    assert total <= len(big[WEIGHTS]) + rounds * UNFINISHED
    restores(archive, big)


EVERY = max(1, 36 // POINTS)


@pytest.mark.parametrize("first", range(1, EVERY + 1) if EVERY == 1 else [2])
def test_killed_at_a_change_of_the_disk(hub, archive, cli, zygote, waits, restores, first):
    """Dies before the n-th file operation below the archive, until a run needs fewer than that."""
    files = {name: data for name, data in model().items() if name[0] in "emR"}
    hub.create(REPO, files)
    for step in itertools.count(first, EVERY):
        folder = archive.with_name(f"archive{step}")
        shutil.copytree(archive, folder)
        command = ("mirror", "-C", folder, REPO)
        code = zygote.run(*command, die_at=step, below=str(folder)).code
        survived = seals(folder)
        assert cli(*command).code == 0
        assert len(seals(folder)) == 1
        assert not survived or survived == seals(folder)
        left = tmp_names(folder)
        # Small files that a dead writer began; prune clears them.
        assert not [name for name in left if not name.startswith(("put-", "intent-"))]
        restores(folder, files)
        if code == 0:
            break
        assert code == -9
    assert step > 30


# ---- what a killed run leaves behind


@pytest.fixture
def killed(hub, big, archive, start):
    """An archive whose mirroring was killed after half of the weights or more; their worklog."""
    hub.create(REPO, big)
    hub.rate = 60_000_000
    withhold(hub, len(big[WEIGHTS]) - 1)
    run = start()
    wait_until(lambda: resumable_bytes(archive) >= len(big[WEIGHTS]) // 2)
    run.kill()
    assert run.wait().code == -9
    hub.rate = None
    hub.requests.clear()
    (worklog,) = (archive / "tmp").glob("work-*")
    return worklog


def swapped(data: bytes) -> bytes:
    """The digests of the first two segments of the same size, exchanged."""
    rows = [json.loads(line) for line in data.splitlines()]
    first, second = [row for row in rows if row[0] == WEIGHTS and row[2] == MIB][:2]
    first[3], second[3] = second[3], first[3]
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def forged(data: bytes, **fields) -> bytes:
    rows = [json.loads(line) for line in data.splitlines()]
    for row in rows:
        for key, value in fields.items():
            row[("path", "begin", "size", "blake3").index(key)] = value
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


SPOILT = {
    "a torn last line": lambda data: data[:-30],
    "a torn line in the middle": lambda data: data[:200] + data[300:],
    "empty": lambda data: b"",
    "no text at all": lambda data: bytes(range(256)) * 9,
    "wrong digests": lambda data: forged(data, blake3="0" * 64),
    "digests that are none": lambda data: forged(data, blake3="../../etc/passwd"),
    "digests of each other": swapped,
    "no digests": lambda data: forged(data, blake3=""),
    "sizes of petabytes": lambda data: forged(data, size=1 << 50),
    "sizes below zero": lambda data: forged(data, size=-5),
    "sizes that are no numbers": lambda data: forged(data, size="x"),
    "another beginning": lambda data: data.replace(b",0,", b",1,"),
    "everything twice": lambda data: data + data,
    "a line without end": lambda data: data + b"[" * 100_000,
}


@pytest.mark.parametrize("how", SPOILT)
def test_a_spoilt_worklog_does_no_harm(hub, big, archive, killed, start, restores, how):
    killed.chmod(0o600)
    killed.write_bytes(SPOILT[how](killed.read_bytes()))
    again = start().wait()
    assert again.code == 0, again.err
    assert sent(hub) <= 2 * len(big[WEIGHTS])
    restores(archive, big)


def test_a_lost_leftover_does_no_harm(hub, big, archive, killed, start, restores):
    (leftover,) = (archive / "tmp").glob("pack-*")
    leftover.unlink()
    assert start().wait().code == 0
    assert sent(hub) == len(big[WEIGHTS])
    restores(archive, big)


@pytest.mark.parametrize("at", [0, 3, 200, 5 * MIB, -1])
def test_a_damaged_leftover_does_no_harm(hub, big, archive, killed, start, restores, at):
    (leftover,) = (archive / "tmp").glob("pack-*")
    data = bytearray(leftover.read_bytes())
    data[at] ^= 1
    leftover.write_bytes(data)
    assert start().wait().code == 0
    assert sent(hub) <= len(big[WEIGHTS])
    restores(archive, big)


def test_a_leftover_that_is_cut_short_does_no_harm(hub, big, archive, killed, start, restores):
    (leftover,) = (archive / "tmp").glob("pack-*")
    os.truncate(leftover, leftover.stat().st_size // 2)
    assert start().wait().code == 0
    assert 0 < sent(hub) < len(big[WEIGHTS])
    restores(archive, big)


def test_an_interrupted_run_goes_on(hub, big, archive, start, restores):
    hub.create(REPO, big)
    hub.rate = 60_000_000
    withhold(hub, len(big[WEIGHTS]) - 1)
    run = start()
    wait_until(lambda: resumable_bytes(archive) >= 5 * MIB)
    os.kill(run.pid, signal.SIGINT)
    ended = run.wait()
    assert ended.code == 130
    assert "again to go on" in ended.err
    assert "Traceback" not in ended.err
    kept = resumable_bytes(archive)
    hub.requests.clear()
    hub.rate = None
    assert start().wait().code == 0
    assert sent(hub) == len(big[WEIGHTS]) - kept
    restores(archive, big)


def test_a_changed_folder_is_not_continued_from_the_old_one(zygote, archive, restores, tmp_path):
    """Upstream has no digests here, so what an earlier run stored cannot stand for the bytes."""
    folder = tmp_path / "my-model"
    folder.mkdir()
    tensors = {f"t{n:02}": ("BF16", (512, 1024), bf16(n, 512, 1024)) for n in range(TENSORS)}
    (folder / WEIGHTS).write_bytes(safetensors(tensors))
    command = ("import", "-C", archive, folder, "--as", REPO, "--effort", "fast")
    # The first fsync asks the disk whether it syncs folders. At the second all of it was read and noted,
    # and the pack is about to be published.
    assert zygote.run(*command, die_at=2, below=str(archive / "packs")).code == -9
    assert resumable_bytes(archive) >= 5 * MIB
    assert not seals(archive)
    tensors["t00"] = ("BF16", (512, 1024), bf16(99, 512, 1024))
    (folder / WEIGHTS).write_bytes(safetensors(tensors))
    assert zygote.run(*command).code == 0
    restores(archive, {WEIGHTS: safetensors(tensors)})
