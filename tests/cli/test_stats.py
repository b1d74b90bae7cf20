from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest
from kit.archive import seals
from kit.cli import invoke
from kit.repository import write_folder

from archiver.catalogue.rebuild import open_catalogue
from archiver.operations import stats


@pytest.fixture
def copy(small, tmp_path):
    """A copy of the archive that a test may spoil."""
    return shutil.copytree(small.archive, tmp_path / "copy")


def stored_files(folder):
    """Every file and when it was changed."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_totals(archiver, small):
    (result,) = archiver("--json", "stats").records
    size = sum(
        path.stat().st_size
        for folder in (small.first, small.second)
        for path in folder.rglob("*")
        if path.is_file()
    )
    packs = list(small.archive.glob("packs/*/*.pack"))
    assert (result["repositories"], result["snapshots"], result["files"]) == (1, 2, 12)
    assert result["logical_bytes"] == size
    assert result["packs"] == len(packs)
    assert result["pack_bytes"] == sum(pack.stat().st_size for pack in packs)
    # The tensor that only moved is stored once; beside the files, packs hold copies of the manifests.
    copies = [json.loads(seal.read_bytes())["manifest"]["size"] for seal in seals(small.archive)]
    assert result["dedup_saving"] >= (20 << 20) - sum(copies)
    assert result["logical_bytes"] - result["dedup_saving"] == result["object_bytes"]
    assert result["dtypes"]["BF16"] == {"tensors": 3, "size": 2 * (20 << 20) + 16}
    assert sum(codec["objects"] for codec in result["codecs"].values()) == result["copies"]
    assert (result["unreadable_packs"], result["unreadable_snapshots"]) == (0, 0)


def test_totals_for_people(archiver):
    result = archiver("stats")
    assert result.code == 0
    assert "snapshots       2\n" in result.out
    assert "saved by dedup  21.0 MB" in result.out
    assert ["BF16", "3", "41.9", "MB"] in [line.split() for line in result.out.splitlines()]
    assert "plain" in result.out


def test_an_empty_archive(archiver, tmp_path):
    target = tmp_path / "empty"
    assert archiver("init", archive=target).code == 0
    result = archiver("--json", "stats", archive=target)
    assert (result.code, result.records[0]["ratio"], result.records[0]["files"]) == (0, 0, 0)
    assert archiver("stats", archive=target).code == 0


def test_a_read_only_archive_is_left_as_it_is(archiver, copy, tmp_path, monkeypatch):
    real = os.access

    def access(path, mode, **rest):
        inside = str(path).startswith(str(copy))
        return not (inside and mode & os.W_OK) and real(path, mode, **rest)

    (copy / "catalogue.sqlite").unlink(missing_ok=True)
    monkeypatch.setattr(os, "access", access)  # root may write whatever the mode bits say
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    before = stored_files(copy)
    result = archiver("--json", "stats", archive=copy)
    assert (result.code, result.records[0]["snapshots"]) == (0, 2)
    assert stored_files(copy) == before
    assert list((tmp_path / "cache/archiver").glob("*.sqlite"))


def test_what_cannot_be_read_is_counted(archiver, copy):
    for name in ("packs/*/*.pack", "snapshots/me/model/*.json"):
        path = next(copy.glob(name))
        path.chmod(0o644)
        path.write_bytes(b"x" * 200)
    (copy / "catalogue.sqlite").unlink(missing_ok=True)
    result = archiver("--json", "stats", archive=copy)
    assert result.code == 20
    (stats,) = result.records
    assert (stats["unreadable_packs"], stats["unreadable_snapshots"]) == (1, 1)
    assert "archiver audit" in result.err


def test_packs_that_are_missing_are_counted(archiver, copy):
    next(copy.glob("packs/*/*.pack")).unlink()
    result = archiver("--json", "stats", archive=copy)
    assert (result.code, result.records[0]["missing_packs"]) == (20, 1)
    assert "1 pack that seals name: missing." in result.err
    assert f"'archiver audit -C {copy}'" in result.err


@pytest.mark.parametrize("state", ["whole", "missing", "garbage"])
def test_rebuild_writes_the_same_index(archiver, copy, state):
    before = archiver("--json", "stats", archive=copy).records
    index = copy / "catalogue.sqlite"
    if state == "missing":
        index.unlink()
    elif state == "garbage":
        index.write_bytes(b"garbage" * 1000)
    result = archiver("--json", "catalogue", "rebuild", archive=copy)
    assert result.code == 0
    assert (result.records[0]["snapshots"], result.records[0]["events"]) == (2, 2)
    assert archiver("--json", "stats", archive=copy).records == before


def test_rebuild_names_what_it_left_out(archiver, copy):
    pack = next(copy.glob("packs/*/*.pack"))
    pack.chmod(0o644)
    pack.write_bytes(pack.read_bytes()[:-20])
    result = archiver("catalogue", "rebuild", archive=copy)
    assert result.code == 20
    assert pack.stem[:16] in result.out


def test_no_archive(archiver, tmp_path):
    assert archiver("stats", archive=tmp_path).code == 10
    assert archiver("catalogue", "rebuild", archive=tmp_path).code == 10


def test_as_a_program(small):
    args = [sys.executable, "-m", "archiver", "-C", str(small.archive)]
    for command in (["stats"], ["catalogue", "rebuild"]):
        assert subprocess.run([*args, *command], capture_output=True, check=False).returncode == 0


def test_what_comes_while_it_looks_is_not_unreadable(copy, monkeypatch, tmp_path):
    """A pack and a seal that are published after the catalogue was brought up to date."""
    folder, looks = write_folder(tmp_path / "late", {"a.bin": bytes(range(256))}), []

    def open_then_add(archive, progress):
        opened = open_catalogue(archive, progress)
        looks.append(opened)
        if len(looks) == 1:
            words = ("import", "-q", "-C", copy, folder, "--as", "org/late", "--min-free", "0B")
            assert invoke(*words) == 0
        return opened

    monkeypatch.setattr(stats, "open_catalogue", open_then_add)
    assert invoke("stats", "-q", "-C", copy) == 0
    assert len(looks) == 2
