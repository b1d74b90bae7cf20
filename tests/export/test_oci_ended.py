"""An export to a layout that is killed, finds the disk full, or runs beside another one."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
from exportkit import blobs, files_of, index, names
from kit.memory import archiver
from kit.repository import REPO, bf16, noise, safetensors

from archiver.errors import UsageError
from archiver.export.oci_layout import OciLayout

KILLS = 60
"""More changes of the disk than an export of so small a model makes."""


def test_killed_at_every_change_of_the_disk(held, archive, layout, cli, zygote):
    words = ("export", "-q", "-C", archive, REPO, "--oci", layout, "--tag", "x")
    for step in range(1, KILLS):
        result = zygote.run(*words, die_at=step, below=str(layout))
        if result.code == 0:
            break
        if not layout.exists():
            continue
        # What has its name is whole; what the index names is all there.
        if (layout / "index.json").exists():
            assert files_of(layout, "x") == held
        if (layout / "blobs/sha256").exists():
            blobs(layout)
    assert result.code == 0, "it came to its end"
    assert step > len(held)
    assert files_of(layout, "x") == held
    assert sorted(path.name for path in layout.iterdir()) == ["blobs", "index.json", "oci-layout"]
    assert len(blobs(layout)) == len(held) - 1 + 2
    assert not list(layout.rglob(".*")), "what the killed ones left is gone"


@pytest.mark.parametrize("call", ["pwrite", "fsync"])
@pytest.mark.parametrize("after", [0, 3, 8])
def test_a_full_disk_ends_it_and_names_nothing(held, export, layout, monkeypatch, call, after):
    honest, calls = getattr(os, call), [0]

    def full(handle, *rest):
        if str(Path(f"/proc/self/fd/{handle}").readlink()).startswith(f"{layout}/"):
            calls[0] += 1
            if calls[0] > after:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return honest(handle, *rest)

    monkeypatch.setattr(os, call, full)
    assert export("--tag", "x").code == 31
    assert not (layout / "index.json").exists()
    assert not list(layout.rglob("*.part"))
    monkeypatch.setattr(os, call, honest)
    assert export("--tag", "x").code == 0
    assert files_of(layout, "x") == held


def test_no_room_is_said_before_anything_is_written(held, export, layout, monkeypatch):
    from archiver.operations import oci

    monkeypatch.setattr(oci, "free_bytes", lambda _folder: 1000)
    result = export()
    assert (result.code, "are free" in result.err) == (31, True)
    assert not blobs(layout)


def test_two_at_once_lose_neither_name(held, archive, layout, zygote):
    running = [
        zygote.start("export", "-q", "-C", archive, REPO, "--oci", layout, "--tag", f"v{number}")
        for number in range(6)
    ]
    assert [child.wait().code for child in running] == [0] * len(running)
    assert set(names(layout)) == {f"v{number}" for number in range(len(running))}
    assert files_of(layout, "v0") == held
    assert len(index(layout)["manifests"]) == len(running)


def test_a_name_that_another_run_took_meanwhile_is_left(held, export, layout):
    assert export("--tag", "x").code == 0
    before, (named,) = index(layout), index(layout)["manifests"]
    with pytest.raises(UsageError, match="by the name x"):
        OciLayout(layout).add(named | {"digest": f"sha256:{'0' * 64}"})
    assert index(layout) == before


def test_memory_stays_below_its_budget(archive, cli, tmp_path, layout):
    folder = tmp_path / "model"
    folder.mkdir()
    for shard in range(2):
        tensors = {f"t{n}": ("BF16", (4096, 2048), bf16(n, 4096, 2048)) for n in range(3)}
        (folder / f"model-0000{shard + 1}-of-00002.safetensors").write_bytes(safetensors(tensors))
    (folder / "noise.bin").write_bytes(noise(1, 40 << 20))
    words = ("import", "-q", "-C", archive, folder, "--as", REPO, "--min-free", "0B")
    assert cli(*words).code == 0
    memory = ("--memory", "200MB")
    result = archiver("export", "--json", "-C", archive, REPO, "--oci", layout, *memory)
    assert result.code == 0
    assert result.peak < 200
    assert json.loads(result.out)["files"] == 3
