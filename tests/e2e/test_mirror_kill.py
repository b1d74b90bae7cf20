"""kill -9 at any point: the next run ends with a complete snapshot and fetches only what is missing."""

from __future__ import annotations

import json
import os
import time

import pytest
from e2ekit import REPO, WEIGHTS, bf16, files_below, model, safetensors, seals

TENSORS = 20
MIB = 1 << 20
POINTS = int(os.environ.get("ARCHIVER_TEST_KILLS", "12"))
BATCH = 4 * MIB
"""What the way in hands on at once; with one core and one file at a time, three may be on their way."""
UNFINISHED = 3 * BATCH + 6 * MIB
"""Batches that were read but not noted, and what the kernel's socket buffers can hold."""


@pytest.fixture(scope="module")
def big() -> dict[str, bytes]:
    """A model of 20 tensors of 1 MiB each."""
    tensors = {f"t{n:02}": ("BF16", (512, 1024), bf16(n, 512, 1024)) for n in range(TENSORS)}
    return model() | {WEIGHTS: safetensors(tensors)}


@pytest.fixture
def start(zygote, archive):
    """Starts a mirroring process."""

    def starting(*arguments, **hooks):
        command = ("mirror", "-C", archive, REPO, "--jobs", 1, "--effort", "fast", *arguments)
        return zygote.start(*command, cores=1, **hooks)

    return starting


def noted(archive) -> int:
    """The bytes of the weights that worklogs know, from the first byte on without a gap."""
    known = {}
    for path in (archive / "tmp").glob("work-*"):
        for row in path.read_bytes().splitlines():
            try:
                name, begin, size, _ = json.loads(row)
            except ValueError:
                continue
            if name == WEIGHTS:
                known[begin] = size
    at = 0
    while at in known:
        at += known[at]
    return at


def wait_until(condition, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def sent(hub) -> int:
    return sum(record.sent for record in hub.requests.bodies() if record.file == WEIGHTS)


@pytest.mark.parametrize("point", range(1, POINTS + 1))
def test_killed_during_the_download(hub, big, archive, start, restores, point):
    hub.create(REPO, big)
    size = len(big[WEIGHTS])
    hub.rate = 60_000_000
    first = start()
    wait_until(lambda: sent(hub) >= size * point // (POINTS + 1))
    first.kill()
    assert first.wait().code == -9
    assert not seals(archive)
    taken, kept = sent(hub), noted(archive)
    assert kept >= min(taken, size) - UNFINISHED
    hub.requests.clear()
    hub.rate = None
    assert start().wait().code == 0
    assert sent(hub) == size - kept
    assert len(seals(archive)) == 1
    assert not list((archive / "tmp").iterdir())
    restores(archive, big)


def test_killed_again_and_again(hub, big, archive, start, restores):
    hub.create(REPO, big)
    hub.rate = 60_000_000
    size, total, ended = len(big[WEIGHTS]), 0, -9
    for _ in range(12):
        hub.requests.clear()
        run = start()
        wait_until(lambda: sent(hub) > 11 * MIB or seals(archive) or not_running(run))
        run.kill()
        ended = run.wait().code
        total += sent(hub)
        if ended == 0:
            break
    else:
        assert start().wait().code == 0
    assert total <= size + 12 * UNFINISHED
    restores(archive, big)


def not_running(run) -> bool:
    with open(f"/proc/{run.pid}/stat") as file:
        return ") Z " in file.read()


def test_killed_at_every_change_of_the_disk(hub, archive, zygote, restores, tmp_path, monkeypatch):
    """Dies before the n-th file operation below the archive; from publishing on, every n."""
    files = model()
    hub.create(REPO, files)
    step = 0
    while True:
        step += 1
        folder = tmp_path / f"archive{step}"
        (archive / "..").resolve()
        assert zygote.run("init", "-C", folder).code == 0
        command = ("mirror", "-C", folder, REPO)
        code = zygote.run(*command, die_at=step, below=str(folder)).code
        survived = seals(folder)
        again = zygote.run(*command)
        assert (again.code, step) == (0, step), again.err
        assert len(seals(folder)) == 1
        assert not survived or survived == seals(folder)
        assert not [path for path in (folder / "tmp").iterdir() if not path.name.startswith("put-")]
        restores(folder, files)
        if code == 0:
            break
        assert code == -9
    assert step > 30
