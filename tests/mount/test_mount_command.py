"""``archiver mount`` from its beginning to its end, and what it says where nothing can be mounted."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys

import pytest
from kit import processes
from kit.cli import invoke
from kit.mounts import PATIENCE, Mounted, digests, is_mounted, python, refused, unmount
from kit.repository import write_folder


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """An archive of one small model, which no test changes."""
    below = tmp_path_factory.mktemp("small")
    assert invoke("init", "-q", "-C", below / "weights") == 0
    add(below / "weights", "org/one", b'{"one": 1}')
    return below / "weights"


def add(archive, name: str, config: bytes) -> None:
    folder = write_folder(archive.with_name(name.replace("/", "-")), {"config.json": config})
    words = ("import", "-q", "-C", archive, folder, "--as", name)
    assert invoke(*words, "--min-free", "0B") == 0


def names(folder) -> list[str]:
    """What lies in a folder of a mount; nothing if it is not there."""
    code = (
        "import os, sys; print(*(os.listdir(sys.argv[1]) if os.path.exists(sys.argv[1]) else ()))"
    )
    return sorted(python(code, folder).split())


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0), (signal.SIGHUP, 0)]
)
def test_a_signal_unmounts_and_ends_it(small, tmp_path, number, code):
    with Mounted(small, tmp_path / "m") as running:
        assert is_mounted(running.folder)
        assert running.end(number) == code
        assert not is_mounted(running.folder)
        assert running.out.splitlines()[-1] == "Unmounted."
        assert running.err == ""
    assert list((tmp_path / "m").iterdir()) == []


def test_unmounting_ends_it_well(small, tmp_path):
    with Mounted(small, tmp_path / "m", "--json") as running:
        assert digests(running.folder)
        helper = shutil.which("fusermount3") or shutil.which("fusermount")
        subprocess.run([helper, "-u", running.folder], check=True, timeout=PATIENCE)
        assert running.process.wait(PATIENCE) == 0
        first, last = map(json.loads, running.out.splitlines())
    folder = str(tmp_path / "m")
    assert first == {"kind": "mounted", "folder": folder, "snapshots": 1, "files": 1}
    assert last == {"kind": "unmounted", "folder": folder, "damaged": False}


def test_a_mount_whose_program_died_is_named(small, tmp_path, cli):
    with Mounted(small, tmp_path / "m") as running:
        assert running.end(signal.SIGKILL) == -signal.SIGKILL
        again = cli("mount", "-C", small, tmp_path / "m")
        assert again.code == 1
        assert "program that has died" in again.err
        assert f"fusermount -u {tmp_path / 'm'}" in again.err
        unmount(running.folder)
    with Mounted(small, tmp_path / "m") as running:
        assert digests(running.folder)


def test_a_folder_is_not_mounted_twice(small, tmp_path, cli):
    with Mounted(small, tmp_path / "m"):
        again = cli("mount", "-C", small, tmp_path / "m")
    assert again.code == 2
    assert "mounted at" in again.err


def test_where_nothing_can_be_mounted(small, tmp_path, cli):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    inside = small / "tmp" / "inside"
    inside.mkdir(parents=True)
    (tmp_path / "link").symlink_to(inside)
    for folder, reason in {
        tmp_path / "none": "is not there",
        tmp_path / "full/file": "is no folder",
        tmp_path / "full": "is not empty",
        inside: "lies in the archive",
        tmp_path / "link": "lies in the archive",
    }.items():
        result = cli("mount", "-C", small, folder)
        assert result.code == 2, folder
        assert reason in result.err
        assert not is_mounted(folder)
    inside.rmdir()


def test_without_an_archive_nothing_is_mounted(tmp_path, cli):
    (tmp_path / "m").mkdir()
    assert cli("mount", "-C", tmp_path, tmp_path / "m").code == 10


def test_without_the_library_it_says_what_to_install(small, tmp_path, zygote):
    (tmp_path / "m").mkdir()
    result = zygote.run("mount", "-C", small, tmp_path / "m", without=["mfusepy"])
    assert result.code == 4
    assert "[mount]" in result.err


def test_without_libfuse_it_says_what_to_install(small, tmp_path, zygote, monkeypatch):
    monkeypatch.setenv("FUSE_LIBRARY_PATH", "/nonexistent/libfuse.so")
    (tmp_path / "m").mkdir()
    result = zygote.run("mount", "-C", small, tmp_path / "m")
    assert result.code == 4
    assert "apt install" in result.err


def test_a_snapshot_that_is_sealed_meanwhile_is_shown(small, tmp_path):
    archive = tmp_path / "weights"
    shutil.copytree(small, archive)
    with Mounted(archive, tmp_path / "m") as running:
        assert names(running.folder / "org") == ["one"]
        add(archive, "org/two", b'{"two": 2}')
        running.until(lambda: names(running.folder / "org") == ["one", "two"])
        assert refused(running.folder / "org/two/main/config.json") == ""
        assert running.end() == 0


def test_a_snapshot_that_is_taken_out_of_use_is_gone(small, tmp_path):
    archive = tmp_path / "weights"
    shutil.copytree(small, archive)
    with Mounted(archive, tmp_path / "m") as running:
        code = """
import errno, os, sys
with open(sys.argv[1], 'rb') as file:
    print('open', flush=True)
    input()
    try:
        print(os.pread(file.fileno(), 10, 0))
    except OSError as error:
        print(errno.errorcode[error.errno])
"""
        command = [sys.executable, "-c", code, running.folder / "org/one/main/config.json"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        reader = processes.start(command, **pipes)
        assert reader.stdout.readline() == "open\n"
        shutil.rmtree(archive / "snapshots/org/one")
        shutil.rmtree(archive / "packs")
        running.until(lambda: names(running.folder / "org") == [])
        assert refused(running.folder / "org/one/main/config.json") == "ENOENT"
        # What was open by then may still be read, if its pack was open too; bytes are never others.
        read, _ = reader.communicate("\n", PATIENCE)
        assert read in {"ESTALE\n", repr(b'{"one": 1}') + "\n"}
        assert running.end() == 0
        assert running.err == ""


def test_an_empty_archive_is_an_empty_folder(tmp_path, cli):
    assert cli("init", "-C", tmp_path / "weights").code == 0
    with Mounted(tmp_path / "weights", tmp_path / "m") as running:
        assert (
            python("import os, sys; print(os.listdir(sys.argv[1]))", running.folder) == "['.hub']\n"
        )


def test_an_archive_whose_disk_is_away_is_not_taken_for_an_empty_one(small, tmp_path):
    archive = tmp_path / "weights"
    shutil.copytree(small, archive)
    with Mounted(archive, tmp_path / "m") as running:
        assert names(running.folder / "org") == ["one"]
        archive.rename(tmp_path / "elsewhere")
        running.until(lambda: names(running.folder / "org") and "not where it was" in running.err)
        assert names(running.folder / "org") == ["one"]
        assert refused(running.folder / "org/one/main/config.json") == "EIO"
        (tmp_path / "elsewhere").rename(archive)
        assert refused(running.folder / "org/one/main/config.json") == ""
