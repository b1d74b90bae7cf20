"""Disks in memory, bound folders and mounts of files, and how much room they leave."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from kit import processes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

needs_mount = pytest.mark.skipif(
    bool(os.environ.get("ARCHIVER_TEST_NO_MOUNT")), reason="ARCHIVER_TEST_NO_MOUNT is set"
)


def mount(*arguments: object) -> None:
    """Mount something, or say why a test that needs it cannot run."""
    done = subprocess.run(["mount", *map(str, arguments)], capture_output=True, check=False)
    message = "what cannot mount can do without some tests: ARCHIVER_TEST_NO_MOUNT=1"
    assert not done.returncode, (done.stderr, message)


def unmount(folder: Path) -> None:
    """Take a disk away, lazily: another program that looks through all disks may hold it just now."""
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def skip_unless_mountable() -> None:
    """Skip a test where nobody but root may mount; a machine of the CI must be able to."""
    if os.geteuid() and not os.environ.get("CI"):
        pytest.skip("only root can mount a disk")


@contextmanager
def mounted(folder: Path, *arguments: object) -> Iterator[Path]:
    """Mount something at a folder, which need not be there, for as long as the block runs."""
    folder.mkdir(parents=True, exist_ok=True)
    mount(*arguments, folder)
    try:
        yield folder
    finally:
        unmount(folder)


@contextmanager
def memory_disk(folder: Path, size: int | None = None) -> Iterator[Path]:
    """A disk of so many bytes at a folder; of half the machine's memory if none are given."""
    options = "mode=777" if size is None else f"size={size},mode=777"
    with mounted(folder, "-t", "tmpfs", "-o", options, "tmpfs"):
        yield folder


@contextmanager
def read_only(folder: Path) -> Iterator[Path]:
    """The folder as on a disk that may only be read."""
    with mounted(folder, "--bind", folder):
        mount("-o", "remount,bind,ro", folder)
        yield folder


def resize(disk: Path, size: int) -> None:
    """Make a disk in memory larger or smaller."""
    mount("-o", f"remount,size={size}", disk)


def free(folder: Path) -> int:
    info = os.statvfs(folder)
    return info.f_bavail * info.f_frsize


def fill(disk: Path, left: int) -> Path:
    """Leave only so many bytes free; return the file that takes the rest."""
    ballast = disk / "ballast"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(free(disk) - left, 1))
    return ballast


class StoppableMount:
    """A folder behind a server: called, that stops for as long as the block runs.

    Whoever looks at the folder then waits for ever; after ``patience`` seconds it goes on, and the block
    has failed.
    """

    def __init__(self, folder: Path, server: subprocess.Popen[bytes], patience: float) -> None:
        self.folder = folder
        self._server = server
        self._patience = patience

    @contextmanager
    def __call__(self) -> Iterator[None]:
        rescue = threading.Timer(self._patience, self._server.send_signal, [signal.SIGCONT])
        rescue.start()
        self._server.send_signal(signal.SIGSTOP)
        try:
            yield
            assert rescue.is_alive(), "something waited for the dead mount"
        finally:
            rescue.cancel()
            self._server.send_signal(signal.SIGCONT)


@contextmanager
def stoppable_mount(below: Path, patience: float) -> Iterator[StoppableMount]:
    """Mount a folder by a server that can stop, for as long as the block runs."""
    assert shutil.which("bindfs"), "this test needs the program bindfs"
    behind, folder = below / "behind", below / "dead"
    behind.mkdir()
    folder.mkdir()
    server = processes.start(["bindfs", "-f", behind, folder])
    for _ in range(3000):
        if os.path.ismount(folder):
            break
        time.sleep(0.01)
    assert os.path.ismount(folder), "bindfs did not mount"
    try:
        yield StoppableMount(folder, server, patience)
    finally:
        server.send_signal(signal.SIGCONT)
        unmount(folder)
        server.wait()
