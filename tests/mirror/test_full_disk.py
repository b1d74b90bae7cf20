"""A disk that is full at any point, and an archive that may only be read."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest
from kit.archive import seals
from kit.disks import fill, free, memory_disk, mount, needs_mount, resize, skip_unless_mountable
from kit.repository import REPO, WEIGHTS, bf16, files_below, model, safetensors

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20


@pytest.fixture
def larger(hub):
    """org/model with 3 MiB of weights in 12 tensors."""
    tensors = {f"t{n:02}": ("BF16", (256, 512), bf16(n, 256, 512)) for n in range(12)}
    files = model() | {WEIGHTS: safetensors(tensors)}
    hub.create(REPO, files)
    return files


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 16 MiB that can be made fuller or larger."""
    skip_unless_mountable()
    with memory_disk(tmp_path / "disk", 16 * MIB) as folder:
        yield folder


MIRROR = ("--min-free", "0", "--effort", "fast")


@needs_mount
@pytest.mark.parametrize("left", [0, 4096, 8192, 16384, 150_000, 200_000, MIB, 2 * MIB - 80_000])
def test_a_full_disk(larger, small_disk, archive, cli, waits, restores, left, monkeypatch):
    monkeypatch.setattr("archiver.operations.mirror.run._LEAST_RATIO", 0)
    here = small_disk / "archive"
    shutil.copytree(archive, here)
    ballast = fill(small_disk, left)
    result = cli("mirror", "-C", here, REPO, *MIRROR)
    assert result.code == 31, result
    assert "→" in result.err
    assert not seals(here)
    ballast.unlink()
    assert cli("mirror", "-C", here, REPO, *MIRROR).code == 0
    assert len(seals(here)) == 1
    restores(here, larger)


@needs_mount
def test_every_size_of_a_disk_ends_in_31_or_a_whole_snapshot(
    larger, small_disk, archive, cli, waits, restores
):
    """In small steps around the end, where the last pack, the manifest and the seal are written."""
    codes = set()
    for left in range(1_900_000, 2_900_000, 66_000):
        here = small_disk / "archive"
        shutil.copytree(archive, here)
        ballast = fill(small_disk, left)
        result = cli("mirror", "-C", here, REPO, *MIRROR)
        codes.add(result.code)
        assert result.code in {0, 31}, (left, result)
        if result.code:
            ballast.unlink()
            assert cli("mirror", "-C", here, REPO, *MIRROR).code == 0
        restores(here, larger)
        shutil.rmtree(here)
        ballast.unlink(missing_ok=True)
    assert codes == {0, 31}


@pytest.mark.parametrize("limit", [0, 100, 40_000, 300_000, MIB, 1_900_000])
def test_files_that_may_not_grow(larger, zygote, archive, cli, waits, restores, limit):
    """RLIMIT_FSIZE stands for a disk that is full at any byte of any file."""
    ended = zygote.run("mirror", "-C", archive, REPO, *MIRROR, file_limit=limit)
    assert ended.code in {1, 31}, ended
    assert "Traceback" not in ended.err
    assert not seals(archive)
    assert cli("mirror", "-C", archive, REPO, *MIRROR).code == 0
    restores(archive, larger)


@pytest.mark.parametrize("attempt", range(3))
def test_many_files_at_once_fail_for_the_one_reason(hub, zygote, archive, attempt):
    files = {f"{n:02}.bin": bytes([n]) + os.urandom(100_000) for n in range(40)}
    hub.create(REPO, files)
    command = ("mirror", "-C", archive, REPO, *MIRROR, "--jobs", 32)
    ended = zygote.run(*command, file_limit=500_000 + attempt)
    assert ended.code == 31, ended.err
    assert "did not expect" not in ended.err
    assert not seals(archive)


@needs_mount
@pytest.mark.parametrize("layout", ["plain", "hf-cache"])
def test_restoring_to_a_full_disk(larger, small_disk, mirror, archive, cli, layout):
    assert mirror(*MIRROR).code == 0
    out = small_disk / "out"
    out.mkdir()
    fill(small_disk, 2 * MIB)
    result = cli("restore", "-C", archive, REPO, out, "--layout", layout)
    assert result.code == 31, result
    assert "out" in result.err
    assert not list(out.rglob(WEIGHTS))
    assert not list(out.rglob("*.part"))
    assert not list(out.rglob("refs"))
    if layout == "plain":
        assert files_below(out).items() <= larger.items()
    (small_disk / "ballast").unlink()
    assert cli("restore", "-C", archive, REPO, out, "--layout", layout).code == 0


@needs_mount
def test_restoring_what_cannot_fit_is_refused_at_once(larger, small_disk, mirror, archive, cli):
    assert mirror(*MIRROR).code == 0
    fill(small_disk, 2 * MIB)
    result = cli("restore", "-C", archive, REPO, small_disk / "new")
    assert result.code == 31
    assert not (small_disk / "new").exists()


@needs_mount
@pytest.mark.parametrize("left", [0, 1 * MIB])
def test_restoring_a_tensor_to_a_full_disk(larger, small_disk, mirror, archive, cli, left):
    assert mirror(*MIRROR).code == 0
    fill(small_disk, 100_000)
    path = small_disk / "t.safetensors"
    result = cli("restore", "-C", archive, REPO, path, "--tensor", "t03")
    assert result.code == 31
    assert [one.name for one in small_disk.iterdir()] == ["ballast"]


def test_room_that_must_stay_free(larger, archive, mirror):
    result = mirror("--min-free", "1000TiB")
    assert result.code == 31
    assert "--min-free" in result.err
    assert not seals(archive)
    assert not list((archive / "packs").rglob("*.pack"))


# ---- what is stored when room runs out


@pytest.fixture
def unguarded(monkeypatch):
    """Begin although it cannot fit, and hand segments on one by one."""
    monkeypatch.setattr("archiver.operations.mirror.run._LEAST_RATIO", 0)
    monkeypatch.setattr("archiver.archive.ingest.pipeline._BATCH_BYTES", 1)
    monkeypatch.setattr("archiver.cli.options.available_cores", lambda: 1)


def sent(hub) -> int:
    return sum(record.sent for record in hub.requests.bodies() if record.file == WEIGHTS)


@needs_mount
@pytest.mark.parametrize("index_fits", [True, False])
def test_a_full_disk_throws_nothing_away(
    hub, larger, small_disk, archive, cli, waits, restores, unguarded, monkeypatch, index_fits
):
    """And what is left unfinished is finished where it lies: for a copy there is no room."""
    from archiver.archive.packs.writer import PackWriter

    here = small_disk / "archive"
    shutil.copytree(archive, here)
    fill(small_disk, 1_600_000)
    with monkeypatch.context() as patch:
        if not index_fits:
            patch.setattr(PackWriter, "finish", lambda self: self._staged.write(bytes(9 * MIB)))
        assert cli("mirror", "-C", here, REPO, *MIRROR, "--jobs", 1).code == 31
    assert len(list((here / "packs").rglob("*.pack"))) == index_fits
    assert len(list((here / "tmp").glob("pack-*"))) == (not index_fits)
    row = cli("mirror", "-C", here, REPO, "--dry-run", "--json").records[0]
    assert row["resumed_bytes"] > MIB // 2
    assert row["to_fetch_bytes"] + row["resumed_bytes"] == row["bytes"]
    resize(small_disk, 16 * MIB + 1_100_000)
    hub.requests.clear()
    result = cli("mirror", "-C", here, REPO, *MIRROR)
    assert result.code == 0, result.err
    assert "stored by an earlier run, " in result.out
    assert 0 < sent(hub) <= row["to_fetch_bytes"]
    restores(here, larger)


@needs_mount
def test_min_free_is_held_while_packs_grow(
    hub, larger, small_disk, archive, cli, waits, restores, unguarded
):
    here = small_disk / "archive"
    shutil.copytree(archive, here)
    keep = free(small_disk) - 1_500_000
    result = cli("mirror", "-C", here, REPO, "--min-free", keep, "--effort", "fast")
    assert result.code == 31
    assert "are free on the disk of" in result.err
    assert "--min-free keeps" in result.err
    assert free(small_disk) > keep - 300_000, "the catalogue and the index come on top"
    assert list((here / "packs").rglob("*.pack"))
    hub.requests.clear()
    assert cli("mirror", "-C", here, REPO, *MIRROR).code == 0
    assert 0 < sent(hub) < len(larger[WEIGHTS]) - MIB // 2
    restores(here, larger)


@needs_mount
def test_what_cannot_fit_is_not_begun(hub, larger, small_disk, archive, cli, waits):
    here = small_disk / "archive"
    shutil.copytree(archive, here)
    keep = free(small_disk) - 1_500_000
    result = cli("mirror", "-C", here, REPO, "--min-free", keep)
    assert result.code == 31
    assert "3.16 MB are to be fetched, which takes 1.90 MB or more" in result.err
    assert not hub.requests.bodies()


# ---- an archive that may only be read


@pytest.fixture
def read_only(small_disk, larger, archive, mirror):
    """An archive on a medium that is mounted read-only."""
    assert mirror(*MIRROR).code == 0
    here = small_disk / "archive"
    shutil.copytree(archive, here)
    for path in here.glob("catalogue*"):
        path.unlink()
    mount("-o", "remount,ro", small_disk)
    return here


@needs_mount
def test_a_read_only_medium(hub, larger, read_only, cli, waits, restores):
    assert cli("list", "-C", read_only).code == 0
    restores(read_only, larger)
    assert "held already" in cli("mirror", "-C", read_only, REPO, "--dry-run").out
    hub.commit(REPO, {"new.json": b"{}"})
    hub.requests.clear()
    result = cli("mirror", "-C", read_only, REPO, "--min-free", "0")
    assert not len(hub.requests)
    assert result.code == 1
    assert "ead-only" in result.err
    assert str(read_only) in result.err
    assert cli("mirror", "-C", read_only, REPO, "--dry-run").code == 0


def set_modes(archive: Path, folders: int, files: int) -> None:
    for path in [archive, *archive.rglob("*")]:
        path.chmod(folders if path.is_dir() else files)


def test_an_archive_that_its_modes_protect(hub, larger, zygote, mirror, archive, tmp_path):
    assert mirror(*MIRROR).code == 0
    set_modes(archive, 0o555, 0o444)
    before = files_below(archive)
    try:
        assert zygote.run("list", "-C", archive, powerless=True).code == 0
        got = zygote.run("restore", "-C", archive, REPO, tmp_path / "out", powerless=True)
        hub.commit(REPO, {"new.json": b"{}"})
        refused = zygote.run("mirror", "-C", archive, REPO, "--min-free", "0", powerless=True)
        set_modes(archive, 0o000, 0o000)
        unread = zygote.run("list", "-C", archive, powerless=True)
    finally:
        set_modes(archive, 0o755, 0o644)
    assert got.code == 0, got.err
    assert files_below(tmp_path / "out") == larger
    assert files_below(archive) == before
    for one in (refused, unread):
        assert one.code == 1
        assert "Permission denied" in one.err
        assert str(archive) in one.err
        assert "Traceback" not in one.err
