"""What the tests of the smoke test share: models, copies to spoil, and how to spoil one."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from archiver.demo.checkpoints import write_dense, write_moe
from archiver.demo.minilm import minilm_folder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_WRITERS: dict[str, Callable[[Path], object]] = {
    "dense": write_dense,
    "moe": write_moe,
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
