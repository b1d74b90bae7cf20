"""Containers have another name each time: what one left is gone on with, seen and removed by the next."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from kit import processes
from kit.repository import REPO, WEIGHTS, bf16, model, safetensors

from archiver.loopback.faults import Fault

MIB = 1 << 20
CONTAINER = (
    "import socket, sys; name = sys.argv.pop(1); socket.gethostname = lambda: name\n"
    "from archiver.__main__ import main; main()"
)


@pytest.fixture
def big(hub):
    tensors = {f"t{n:02}": ("BF16", (512, 1024), bf16(n, 512, 1024)) for n in range(24)}
    files = model() | {WEIGHTS: safetensors(tensors)}
    hub.create(REPO, files)
    return files


def start(host, *arguments):
    """The program in a container of this name."""
    words = [sys.executable, "-c", CONTAINER, host, *map(str, arguments)]
    return processes.start(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    )


def sent(hub):
    return sum(record.sent for record in hub.requests.bodies() if record.file == WEIGHTS)


def killed(hub, archive):
    """A mirror run in a container that was killed once it had stored a part of the weights."""
    hub.faults.add(Fault("stall", path=WEIGHTS, route="cdn", after=20 * MIB, seconds=600))
    words = ("--effort", "fast", "--jobs", 1, "--connections", 1)
    child = start("alpha", "mirror", "-C", archive, REPO, *words)
    while sum(path.read_bytes().count(b"1048576") for path in (archive / "tmp").glob("work-*")) < 8:
        assert child.poll() is None, child.stderr.read()
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    hub.faults.clear()
    hub.requests.clear()


def remarks(cli, archive):
    (status,) = (
        one for one in cli("status", "--json", "-C", archive).records if one["kind"] == "status"
    )
    return {one["what"]: one["message"] for one in status["remarks"]}


def test_what_another_container_stored_is_reused(hub, big, archive, restores):
    killed(hub, archive)
    assert list((archive / "tmp").glob("pack-alpha-*"))
    child = start("beta", "mirror", "-C", archive, REPO, "--effort", "fast")
    _, told = child.communicate()
    assert child.returncode == 0, told
    assert sent(hub) <= len(big[WEIGHTS]) - 4 * MIB
    assert not list((archive / "tmp").glob("pack-*"))
    assert not list((archive / "tmp").glob("work-*"))
    restores(archive, big)


def test_status_sees_what_is_left_and_prune_removes_it(hub, big, archive, cli):
    killed(hub, archive)
    (half,) = (archive / "tmp").glob("pack-alpha-*")
    (archive / "tmp/put-gamma-1-abcd").write_bytes(b"x" * 1000)
    (archive / "tmp/intent-gamma-1-abcd").write_bytes(b"{")
    assert "Runs that died left 3 unfinished files" in remarks(cli, archive)["unfinished"]
    assert cli("prune", "-C", archive).code == 0
    left = {path.name for path in (archive / "tmp").iterdir() if not path.name.endswith(".lock")}
    assert half.name in left
    assert not [name for name in left if "gamma" in name]
    # A month later nobody has come back for it.
    (worklog,) = (archive / "tmp").glob("work-*")
    for path in (half, worklog):
        os.utime(path, (0, path.stat().st_mtime - 30 * 86400))
    assert cli("prune", "-C", archive).code == 0
    left = {path.name for path in (archive / "tmp").iterdir() if not path.name.endswith(".lock")}
    assert left == {"reserve"}
    assert "unfinished" not in remarks(cli, archive)
