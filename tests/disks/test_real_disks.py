"""Real small disks of ext4, mounted from a file: full to the last byte, or without inodes."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from diskkit import Disk
from kit.disks import mounted, needs_mount, skip_unless_mountable
from kit.repository import files_below

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = needs_mount


@pytest.fixture
def ext4(tmp_path, library):
    """Makes a disk; the archive is at its very top."""
    skip_unless_mountable()
    mounts = ExitStack()

    def make(*options: str) -> Disk:
        image, folder = tmp_path / "image", tmp_path / "disk"
        with image.open("wb") as file:
            file.truncate(24 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", *options, image], check=True)
        return Disk(mounts.enter_context(mounted(folder, "-o", "loop", image)), library)

    with mounts:
        yield make


def fill(disk: Disk) -> Path:
    """Leave not a single block."""
    ballast = disk.root / "ballast"
    with ballast.open("wb") as file:
        for size in (1 << 20, 4096, 1024):
            while True:
                try:
                    os.posix_fallocate(file.fileno(), file.seek(0, 2), size)
                except OSError:
                    break
    assert os.statvfs(disk.root).f_bavail == 0
    return ballast


def use_up_inodes(disk: Disk) -> None:
    """Leave not a single inode."""
    number = 0
    while True:
        try:
            (disk.root / f"spare{number}").touch()
        except OSError:
            break
        number += 1
    info = os.statvfs(disk.root)
    assert not info.f_favail
    assert info.f_bavail


def no_index(disk: Disk) -> None:
    """As where it lies elsewhere, so that it has no room to give."""
    for path in disk.root.glob("catalogue.sqlite*"):
        path.unlink()


LACKING = {
    "bytes": fill,
    "bytes, no index there": lambda disk: (no_index(disk), fill(disk)),
    "inodes": use_up_inodes,
    "inodes, no index there": lambda disk: (no_index(disk), use_up_inodes(disk)),
}


@pytest.fixture(params=LACKING)
def full(request, ext4, model):
    """A disk with an archive of two snapshots, and not a byte free, or not an inode."""
    disk = ext4("-N", "600")
    # ext4 has lost+found at the top of every disk: that is no content.
    assert disk.run("-q", "init", "-C", disk.root).code == 0
    for name in ("one", "two"):
        (model / "config.json").write_text(name)
        words = ("import", "-q", "-C", disk.root, model, "--as", f"org/{name}", "--min-free", "0")
        assert disk.run(*words).code == 0
    LACKING[request.param](disk)
    return disk


def test_a_full_disk_can_be_read_and_freed(full, model, tmp_path):
    run, root = full.run, full.root
    done = run("import", "-C", root, model, "--as", "org/three", "--min-free", "0")
    assert done.code == 31, done
    lacking = "space is" if not os.statvfs(root).f_bavail else "inodes are"
    assert f"No {lacking} left" in done.err
    for words in (("list",), ("stats",), ("audit",), ("restore", "org/two", tmp_path / "out")):
        done = run(words[0], "-q", "-C", root, *words[1:])
        assert done.code == 0, (words, done)
    assert files_below(tmp_path / "out") == files_below(model)
    assert run("status", "-C", root).code in {0, 24}
    now = ("prune", "--grace", "0d")
    undo = ("forget", "org/one", "--undo")
    for words in (
        ("forget", "org/one"),
        ("prune",),
        undo,
        ("prune",),
        ("forget", "org/one"),
        now,
        now,
    ):
        done = run(words[0], "-C", root, *words[1:])
        assert done.code == 0, (words, done)
    assert not list(root.glob("trash/*/snapshots"))
    assert run("audit", "-q", "-C", root).code == 0


def test_a_fresh_disk_can_be_restored_to_and_imported(ext4, model, tmp_path):
    """Its lost+found is no content, neither for the one nor for the other."""
    disk = ext4()
    archive = Disk(tmp_path / "archive", disk.library)
    assert archive.run("-q", "init", "-C", archive.root).code == 0
    words = ("--as", "org/model", "--min-free", "0")
    assert archive.run("import", "-q", "-C", archive.root, model, *words).code == 0
    decode = [sys.executable, archive.root / "decode.py", "restore", "org/model", disk.root]
    subprocess.run(decode, check=True, stdout=subprocess.DEVNULL)
    assert files_below(disk.root) == files_below(model)
    for path in model.iterdir():
        (disk.root / path.name).unlink()
    assert archive.run("restore", "-C", archive.root, "org/model", disk.root).code == 0
    assert files_below(disk.root) == files_below(model)
    again = archive.run("import", "-C", archive.root, disk.root, *words)
    assert again.code == 0, again
    assert len(list((archive.root / "snapshots").rglob("*.json"))) == 1


def test_a_disk_without_inodes_is_told_as_that(ext4, model):
    disk = ext4("-N", "64")
    assert disk.run("-q", "init", "-C", disk.root).code == 0
    use_up_inodes(disk)
    words = ("import", "-C", disk.root, model, "--as", "org/model", "--min-free", "0")
    done = disk.run(*words)
    assert done.code == 31, done
    assert "No inodes are left" in done.err
    for path in disk.root.glob("spare*"):
        path.unlink()
    assert disk.run(*words).code == 0
    found = disk.run("--json", "audit", "-C", disk.root)
    assert found.code == 0
    assert not found.findings


@pytest.mark.parametrize(
    ("below", "mount"),
    [
        ("packs", ["-t", "tmpfs", "-o", "size=4m", "tmpfs"]),
        ("packs", ["--bind", "SAME"]),
        ("packs/0 1/é", ["--bind", "SAME"]),
        ("journal", ["--bind", "SAME"]),
        ("tmp", ["--bind", "SAME"]),
    ],
)
def test_a_second_disk_within_an_archive_is_refused_at_the_start(
    disk, model, tmp_path, below, mount
):
    """A link to one is in tests/hostile/test_linked_folders.py."""
    assert disk.run("-q", "init", "-C", disk.root).code == 0
    folder, same = disk.root / below, tmp_path / "disk" / "same"
    folder.mkdir(parents=True, exist_ok=True)
    same.mkdir()
    words = [same if word == "SAME" else word for word in mount]
    with mounted(folder, *words):
        for words in (("import", model, "--as", "org/model", "--min-free", "0"), ("prune",)):
            done = disk.run(words[0], "-C", disk.root, *words[1:])
            assert done.code == 1
            assert f"{below} is on another disk, or a mount of its own" in done.err
        assert not list((disk.root / "tmp").iterdir())
        assert disk.run("list", "-C", disk.root).code == 0
    assert not list(same.iterdir())
