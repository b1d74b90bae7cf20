from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import numpy as np

from archiver.tensors.header import header_bytes

if TYPE_CHECKING:
    from pathlib import Path


def noise(seed, size):
    return np.random.default_rng(seed).integers(0, 256, size, np.uint8).tobytes()


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


class Weights:
    """An archive on disk that a test may damage."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def copy(self, target: Path) -> Weights:
        shutil.copytree(self.root, target)
        return Weights(target)

    def documents(self, kind: str) -> list[Path]:
        """Stored files of a kind, those of org/one first."""
        if kind in {"manifests", "snapshots"}:
            return sorted(path for path in (self.root / kind).rglob("*") if path.is_file())
        if kind == "packs":
            names = [self.seal(name)["packs"][0][0] for name in ("one", "two")]
            return [self.root / "packs" / name[:2] / f"{name}.pack" for name in names]
        if kind == "journal":
            found = (path for path in (self.root / "journal").rglob("*") if path.is_file())
            return sorted(found, key=lambda path: json.loads(path.read_bytes())["repository"])
        return [self.root / kind]

    def seal(self, name: str) -> dict:
        (path,) = (self.root / "snapshots/org" / name).iterdir()
        return json.loads(path.read_bytes())

    def events(self, name: str) -> list[dict]:
        found = [json.loads(path.read_bytes()) for path in self.documents("journal")]
        return [one for one in found if one["event"] == name]


def write(path: Path, data: bytes) -> None:
    """Overwrite a stored file, which is read-only."""
    if path.exists():
        path.chmod(0o644)
    path.write_bytes(data)
    path.chmod(0o444)


def flip(path: Path, at: int | None = None, bit: int = 1) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2 if at is None else at] ^= bit
    write(path, bytes(data))


def flip_inside(path: Path, text: bytes, *, last: bool = False) -> None:
    """Flip a bit of the last byte of ``text`` where it stands in the file."""
    data = path.read_bytes()
    at = data.rindex(text) if last else data.index(text)
    flip(path, at + len(text) - 1)


def truncate(path: Path) -> None:
    write(path, path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    write(path, b"")


def swap(one: Path, two: Path) -> None:
    first, second = one.read_bytes(), two.read_bytes()
    write(one, second)
    write(two, first)
