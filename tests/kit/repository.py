"""Made-up repositories: their bytes, and folders of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from archiver.tensors.header import header_bytes

if TYPE_CHECKING:
    from pathlib import Path


def noise(seed: int, size: int) -> bytes:
    return np.random.default_rng(seed).integers(0, 256, size, np.uint8).tobytes()


def write_folder(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def files_below(folder: Path) -> dict[str, bytes]:
    """Path and bytes of every file below ``folder``."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def write_model(folder, seed, rows):
    """A small model: one safetensors file of two tensors, and a text file."""
    folder.mkdir(parents=True)
    tensors = [
        ("body.weight", "U8", (rows, 1000), noise(seed, rows * 1000)),
        ("head.weight", "U8", (7, 300), noise(seed + 1, 2100)),
    ]
    head = header_bytes([(name, kind, shape, len(data)) for name, kind, shape, data in tensors])
    weights = bytes(head) + b"".join(data for *_, data in tensors)
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "config.json").write_text(f'{{"seed": {seed}}}')
    return folder
