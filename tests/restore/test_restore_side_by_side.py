"""Files of many buffers, several at a time: the same bytes in little memory, whatever fails beside them."""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from blake3 import blake3
from kit.memory import PEAK_MB, measured
from kit.repository import REPO, bf16, files_below, noise, safetensors

if TYPE_CHECKING:
    from kit.cli import Result

MIB = 1 << 20
LARGE = ("a.bin", "b.bin", "c.bin")
CORES = """
import os, sys
os.sched_getaffinity = lambda _: set(range(64))
from archiver.__main__ import main
main()
"""


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    """Three files of three buffers each, which have a segment in common, and small ones."""
    shared = noise(0, 16 * MIB)
    large = {name: noise(at, 18 * MIB) + shared[: 14 * MIB] for at, name in enumerate(LARGE, 1)}
    small = {f"folder/{at}.json": b"%d" % at for at in range(40)}
    return large | small | {"empty": b"", "d.bin": noise(9, 2 * MIB)}


@pytest.fixture
def held(files, archive, cli, tmp_path) -> None:
    folder = tmp_path / "model"
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    assert cli("import", "-C", archive, folder, "--as", REPO, "--effort", "fast").code == 0


@pytest.fixture
def restored(held, archive, cli, tmp_path):
    """Restores into ``out``; returns how it ended, and the files that are there then."""

    def run(*options: object) -> tuple[Result, dict[str, bytes]]:
        done = cli("--json", "restore", "-C", archive, REPO, tmp_path / "out", *options)
        return done, files_below(tmp_path / "out")

    return run


@pytest.mark.parametrize("cores", [1, 2, 64])
@pytest.mark.parametrize("check", ["files", "segments"])
def test_the_same_bytes_on_any_machine(restored, files, monkeypatch, cores, check):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(cores)))
    done, there = restored("--check", check)
    assert done.code == 0
    assert there == files
    assert done.kinds("restore")[0]["proof"] == check
    again, there = restored("--check", check)
    assert again.kinds("restore")[0]["kept"] == len(files)
    assert there == files


@pytest.mark.parametrize("check", ["files", "segments"])
def test_damage_in_the_middle_of_a_file_costs_this_file_alone(
    restored, files, archive, check, monkeypatch
):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)))
    damage(archive, files["b.bin"][16 * MIB : 32 * MIB])
    done, there = restored("--check", check)
    assert done.code == 20
    assert there == {name: data for name, data in files.items() if name != "b.bin"}
    (failure,) = done.kinds("restore")[0]["failures"]
    assert failure["path"] == "b.bin"
    assert failure["object"] == blake3(files["b.bin"][16 * MIB : 32 * MIB]).hexdigest()


def test_of_two_damaged_objects_the_first_one_is_named(restored, files, archive, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)))
    damage(archive, files["a.bin"][: 16 * MIB])
    damage(archive, files["a.bin"][16 * MIB :])
    for _ in range(3):
        done, _there = restored("--file", "a.bin")
        (failure,) = done.kinds("restore")[0]["failures"]
        assert failure["object"] == blake3(files["a.bin"][: 16 * MIB]).hexdigest()


@pytest.mark.parametrize("call", ["pwrite", "fsync"])
@pytest.mark.parametrize("after", [0, 3, 9])
def test_a_full_disk_ends_it_and_leaves_nothing_unfinished(
    restored, files, tmp_path, monkeypatch, call, after
):
    honest, calls, out = getattr(os, call), [0], str(tmp_path / "out")

    def full(handle, *rest):
        if str(Path(f"/proc/self/fd/{handle}").readlink()).startswith(out + "/"):
            calls[0] += 1
            if calls[0] > after:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return honest(handle, *rest)

    monkeypatch.setattr(os, call, full)
    done, there = restored()
    assert done.code == 31
    assert len(done.err.strip().splitlines()) < 60
    assert there.items() <= files.items()
    monkeypatch.setattr(os, call, honest)
    done, there = restored()
    assert done.code == 0
    assert there == files


def test_memory_follows_the_budget_and_not_the_cores(archive, cli, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    rows = 8 * MIB // 1024
    for shard in range(3):
        tensors = {
            f"layer.{shard}.{at}.weight": ("BF16", (rows, 1024), bf16(5 * shard + at, rows, 1024))
            for at in range(5)
        }
        (folder / f"model-{shard}.safetensors").write_bytes(safetensors(tensors))
    assert cli("import", "-C", archive, folder, "--as", REPO, "--effort", "fast").code == 0
    command = (sys.executable, "-c", CORES)
    for words in (
        ("restore", REPO, tmp_path / "out"),
        ("audit", "--read-only"),
        ("audit", "--read-only", "--level", "files"),
    ):
        done = measured(*command, *words, "-C", archive)
        assert done.code == 0, done
        assert done.peak < PEAK_MB, (words, done.peak)
    assert files_below(tmp_path / "out") == files_below(folder)


def damage(archive, plain: bytes) -> None:
    """Flip a bit of a stored segment."""
    name = blake3(plain).hexdigest()
    for path in (archive / "packs").rglob("*.pack"):
        data = bytearray(path.read_bytes())
        end = int.from_bytes(data[-8:], "little")
        for row in json.loads(data[end + 8 : -16])["objects"]:
            if row[0] == name:
                data[row[1] + row[2] - 20] ^= 1
                path.chmod(0o600)
                path.write_bytes(data)
                return
    raise AssertionError(name)


@pytest.mark.parametrize("same", [True, False])
def test_a_file_that_another_run_named_first_is_kept_if_it_is_right(
    restored, files, monkeypatch, same
):
    honest = os.link

    def link(source, target):
        name = Path(target).name
        if name in {"a.bin", "empty"}:
            Path(target).write_bytes(files[name] if same else b"of somebody else")
        honest(source, target)

    monkeypatch.setattr(os, "link", link)
    done, there = restored()
    assert done.code == (0 if same else 3)
    theirs = dict.fromkeys(("a.bin", "empty"), b"of somebody else")
    assert there == (files if same else files | theirs)
