"""What the tests of the smoke test share: models, copies to spoil, and how to spoil one."""

from __future__ import annotations

import json
import shutil
from functools import partial
from typing import TYPE_CHECKING

from kit.cli import invoke

from archiver.archive.archive import Archive
from archiver.demo.checkpoints import minilm_folder, write_dense, write_gptq, write_moe
from archiver.smoke.checkpoint.archived import ArchivedCheckpoint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def write_awq(folder: Path) -> None:
    """A model whose config says that it is quantized in a way that no library here undoes."""
    write_gptq(folder)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["quantization_config"] = {
        "bits": 4,
        "group_size": 128,
        "quant_method": "awq",
        "version": "gemm",
        "zero_point": True,
    }
    path.write_text(json.dumps(config))


_WRITERS: dict[str, Callable[[Path], object]] = {
    "dense": write_dense,
    "moe": write_moe,
    "dense-fp8": partial(write_dense, fp8=True),
    "moe-fp8": partial(write_moe, fp8=True),
    "text": partial(write_dense, vision=False),
    "text-moe": partial(write_moe, vision=False),
    "dense-untied": partial(write_dense, tied=False),
    "gptq": write_gptq,
    "gptq-dense": partial(write_gptq, moe=False),
    "int4": write_awq,
    "minilm": lambda folder: shutil.copytree(minilm_folder(), folder),
}


class Models:
    """Folders by the names in `_WRITERS`; never to be changed."""

    def __init__(self, below: Path) -> None:
        self._below = below

    def __call__(self, name: str) -> Path:
        folder = self._below / name
        if not folder.exists():
            _WRITERS[name](folder)
        return folder


class Copies:
    """Copies of them for one test."""

    def __init__(self, models: Models, below: Path) -> None:
        self._models, self._below = models, below

    def __call__(self, name: str) -> Path:
        return shutil.copytree(self._models(name), self._below / name)


def archive_of(folder: Path, root: Path) -> Archive:
    """A new archive in ``root`` that holds the folder as ``me/<its name>``."""
    assert invoke("init", "-q", "-C", root) == 0
    name = f"me/{folder.name}"
    assert invoke("import", "-q", "-C", root, folder, "--as", name, "--effort", "fast") == 0
    return Archive.open(root)


def archived(folder: Path, tmp_path: Path, *, workers: int = 2) -> ArchivedCheckpoint:
    """The folder as a checkpoint straight from a new archive, ``tmp_path/archive-of-<its name>``."""
    archive = archive_of(folder, tmp_path / f"archive-of-{folder.name}")
    return ArchivedCheckpoint(archive, next(archive.snapshots()), workers=workers)
