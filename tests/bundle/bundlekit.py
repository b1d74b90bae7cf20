"""Archives to carry, volumes to damage, and what a test looks at afterwards."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING, NamedTuple

from kit.cli import invoke
from kit.repository import noise

from archiver.archive.archive import Archive

if TYPE_CHECKING:
    from pathlib import Path

SIZE = "8MiB"
"""Of a volume, where a test has made the least size smaller."""
LARGE = "org/large"
"""Its one pack is larger than a volume."""
SMALL = "org/small"


class Carried(NamedTuple):
    """An archive, and the folders that its repositories were made of."""

    root: Path
    models: Path

    def model(self, repository: str) -> Path:
        return self.models / repository.replace("/", "-")

    def ids(self) -> set[str]:
        return {snapshot.id for snapshot in Archive.open(self.root).snapshots()}


def make(folder: Path) -> Carried:
    """An archive of a large and a small repository, each in a pack of its own."""
    carried = Carried(folder / "archive", folder)
    assert invoke("init", "-q", "-C", carried.root) == 0
    for name, size, seed in ((LARGE, 23_000_000, 1), (SMALL, 300_000, 2)):
        model = carried.model(name)
        model.mkdir()
        (model / "weights.bin").write_bytes(noise(seed, size))
        (model / "config.json").write_text(f'{{"seed": {seed}}}')
        take_in(carried.root, model, name)
    return carried


def take_in(root: Path, model: Path, name: str) -> None:
    words = ["--min-free", "0", "--effort", "fast"]
    assert invoke("import", "-q", "-C", root, model, "--as", name, *words) == 0


def linked(source: Path, target: Path) -> Path:
    """The same files under other names: whoever changes one replaces it."""
    shutil.copytree(source, target, copy_function=os.link)
    return target


def replace(path: Path, data: bytes) -> None:
    path.unlink()
    path.write_bytes(data)


def flip(path: Path, *places: int) -> None:
    data = bytearray(path.read_bytes())
    for at in places or (len(data) // 2,):
        data[at] ^= 1
    replace(path, bytes(data))


def files(folder: Path) -> dict[str, bytes]:
    """Path and bytes of every file, but for the room that is put by."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "reserve" not in path.parts
    }


def volumes_of(folder: Path) -> list[Path]:
    return sorted(folder.glob("volume-*"))


def document(volume: Path, name: str) -> dict:
    return json.loads((volume / name).read_bytes())


def piece(volume: Path) -> Path:
    """The path of the piece of a pack that lies on a volume."""
    (path,) = (volume / "pieces").rglob("*.pack.*")
    return path
