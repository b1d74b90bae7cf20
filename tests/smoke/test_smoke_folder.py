"""A checkpoint in a folder that is not ours: what is refused, and what changes during the test."""

from __future__ import annotations

import os
import shutil

import pytest
from storedkit import FILE, MIB, bytes_of, noise

from archiver.errors import DamageError, UsageError
from archiver.smoke.checkpoint.folder import FolderCheckpoint


@pytest.fixture
def folder(made, tmp_path):
    """A folder that a test may spoil."""
    return shutil.copytree(made, tmp_path / "folder")


def refusal(folder):
    with pytest.raises(UsageError) as error:
        FolderCheckpoint(folder, workers=1)
    return error.value.message


def test_a_folder_must_be_there_and_hold_something(tmp_path, made):
    assert "is not a folder" in refusal(tmp_path / "none")
    assert "is not a folder" in refusal(made / FILE)
    (tmp_path / "folder/.git").mkdir(parents=True)
    assert "is empty" in refusal(tmp_path / "folder")
    (tmp_path / "folder/.git/config").write_text("x")
    assert "is empty" in refusal(tmp_path / "folder")


def test_what_programs_keep_in_a_folder_is_no_part_of_it(folder, made):
    for name in (".git", ".cache/huggingface"):
        (folder / name).mkdir(parents=True)
        os.mkfifo(folder / name / "pipe")
        (folder / name / "x.safetensors").write_bytes(b"x")
    one = FolderCheckpoint(folder, workers=1)
    assert one.files == FolderCheckpoint(made, workers=1).files
    one.close()


def test_what_is_no_file_of_the_folder_is_refused_all_at_once(folder, tmp_path):
    os.mkfifo(folder / "pipe")
    (folder / "out.json").symlink_to("/etc/hostname")
    (folder / "gone.json").symlink_to("nowhere")
    (folder / "loop").symlink_to("loop")
    (folder / "above").symlink_to("..")
    (folder / "\x1b[31m.txt").write_text("x")  # an odd name, and a file all the same
    (folder / os.fsdecode(b"\xff.txt")).write_text("x")
    told = refusal(folder)
    assert "6 entries that cannot be read as files of it" in told
    assert "out.json (a link that leads out of it, to /etc/hostname)" in told
    assert "pipe (it is not a plain file)" in told
    assert told.isprintable()


def test_links_within_the_folder_are_followed(folder):
    (folder / "again.json").symlink_to("config.json")
    one = FolderCheckpoint(folder, workers=1)
    assert one.read("again.json", 2) == b"{}"
    one.close()


COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize("which", ["snapshot", "repository"])
def test_a_snapshot_of_a_hub_cache_is_read(made, tmp_path, which):
    cache = tmp_path / "models--me--Model"
    snapshot = cache / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (cache / "blobs").mkdir()
    (cache / "refs").mkdir()
    (cache / "refs/main").write_text(COMMIT)
    for number, name in enumerate((FILE, "config.json")):
        shutil.copy(made / name, cache / f"blobs/{number}")
        (snapshot / name).symlink_to(f"../../blobs/{number}")
    one = FolderCheckpoint(snapshot if which == "snapshot" else cache, workers=1)
    assert set(one.files) == {FILE, "config.json"}
    assert bytes_of(one, one.tensors["small.5"]) == noise(5, 4096)
    one.close()
    (snapshot / "out").symlink_to("../../refs/main")
    assert "leads out" in refusal(snapshot)


def test_a_file_that_changes_during_the_test_is_damage(folder, tmp_path):
    one = FolderCheckpoint(folder, workers=1)
    big = one.tensors["big"]
    path = folder / FILE
    os.truncate(path, path.stat().st_size - 1)
    with (folder / "config.json").open("a") as file:
        file.write(" ")
    (folder / "nothing.txt").unlink()
    os.mkfifo(folder / "nothing.txt")  # opening it would wait for somebody who writes
    (tmp_path / "else.txt").write_text("else")
    (folder / "below/note.txt").unlink()
    (folder / "below/note.txt").symlink_to(tmp_path / "else.txt")
    (folder / "second.safetensors").unlink()
    calls = (
        lambda: bytes_of(one, big),
        lambda: one.header(FILE),
        lambda: one.read("nothing.txt", 10),
        lambda: one.read("config.json", 10),
        lambda: one.read("below/note.txt", 10),
        lambda: one.header("second.safetensors"),
    )
    for call in calls:
        with pytest.raises(DamageError) as error:
            call()
        assert error.value.hint
    one.close()


def test_a_file_that_shrinks_while_it_is_read_is_damage(folder, monkeypatch):
    one = FolderCheckpoint(folder, workers=2)
    big, read = one.tensors["big"], os.preadv

    def shrinking(handle, buffers, offset):
        os.truncate(folder / FILE, big.begin + MIB)
        return read(handle, buffers, offset)

    monkeypatch.setattr(os, "preadv", shrinking)
    with pytest.raises(DamageError, match=r"Tensor big in model\.safetensors became shorter"):
        bytes_of(one, big)
    one.close()


@pytest.mark.parametrize("how", ["written to", "replaced"])
def test_a_file_of_the_same_size_that_changes_is_damage(folder, how):
    one = FolderCheckpoint(folder, workers=1)
    big, path = one.tensors["big"], folder / FILE
    if how == "replaced":
        other = shutil.copy2(path, folder / "other")
        other.replace(path)
    else:
        with path.open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            file.write(b"x")
        os.utime(path)
    with pytest.raises(DamageError, match=r"model\.safetensors was replaced or changed"):
        bytes_of(one, big)
    one.close()


def test_a_file_that_changes_while_it_is_read_is_damage(folder, monkeypatch):
    one = FolderCheckpoint(folder, workers=2)
    big, read = one.tensors["big"], os.preadv

    def touching(handle, buffers, offset):
        os.utime(folder / FILE, ns=(1, 1))
        return read(handle, buffers, offset)

    monkeypatch.setattr(os, "preadv", touching)
    with pytest.raises(DamageError, match=r"model\.safetensors was replaced or changed"):
        bytes_of(one, big)
    one.close()
