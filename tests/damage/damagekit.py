"""The damage table: every damage to every kind of stored file, what is said of it, and what heals it."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from archiver.tensors.writer import header_bytes

if TYPE_CHECKING:
    from pathlib import Path

ONE, TWO, OTHER = "org/one", "org/two", "org/other"
BLOCK = 4096
"""Bytes of a disk's block, and of a parity block of so small files."""


class Result(NamedTuple):
    code: int
    out: str
    err: str

    def kinds(self, kind: str) -> list[dict]:
        rows = map(json.loads, self.out.splitlines())
        return [row for row in rows if row["kind"] == kind]

    @property
    def findings(self) -> list[dict]:
        return self.kinds("finding")


def noise(seed: int, size: int) -> bytes:
    return np.random.default_rng(seed).integers(0, 256, size, np.uint8).tobytes()


def model(seed: int) -> dict[str, bytes]:
    """A small model: three tensors, of which one is shared by all models, and a text file."""
    tensors = [
        ("shared.weight", "U8", (20, 500), noise(999, 10_000)),
        ("body.weight", "U8", (40, 1000), noise(seed, 40_000)),
        ("head.weight", "U8", (30, 500), noise(seed + 1, 15_000)),
    ]
    head = header_bytes([(name, kind, shape, len(data)) for name, kind, shape, data in tensors])
    weights = bytes(head) + b"".join(data for *_, data in tensors)
    return {"model.safetensors": weights, "config.json": b'{"seed": %d}' % seed}


MODELS = {ONE: model(10), TWO: model(20)}


def write_folder(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


# ---- an archive's files


def seal(root: Path, repository: str) -> Path:
    (path,) = (root / "snapshots" / repository).iterdir()
    return path


def manifest(root: Path, repository: str) -> Path:
    (path,) = (root / "manifests" / repository).iterdir()
    return path


def pack(root: Path, repository: str) -> Path:
    """The pack that was written for the repository."""
    named = {
        one: {digest for digest, _ in json.loads(seal(root, one).read_bytes())["packs"]}
        for one in (ONE, TWO)
    }
    (name,) = named[ONE] if repository == ONE else named[TWO] - named[ONE]
    return root / "packs" / name[:2] / f"{name}.pack"


def event(root: Path, repository: str) -> Path:
    """The event of the repository's seal."""
    (path,) = (
        one
        for one in (root / "journal").rglob("*.json")
        if (told := json.loads(one.read_bytes()))["event"] == "sealed"
        and told["repository"] == repository
    )
    return path


def sidecar(root: Path, repository: str) -> Path:
    """The sidecar of the repository's pack."""
    name = pack(root, repository).stem
    return root / "parity" / name[:2] / f"{name}.par"


TARGETS = {
    "pack": pack,
    "sidecar": sidecar,
    "manifest": manifest,
    "seal": seal,
    "event": event,
    "archive.json": lambda root, _repository: root / "archive.json",
    "catalogue": lambda root, _repository: root / "catalogue.sqlite",
}


def overwrite(path: Path, data: bytes) -> None:
    """Change a stored file, which is read-only."""
    if path.exists():
        path.chmod(0o644)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def stored(root: Path) -> dict[str, bytes]:
    folders = ("packs", "manifests", "snapshots", "journal", "parity")
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for folder in folders
        for path in (root / folder).rglob("*")
        if path.is_file()
    }


def copy(root: Path, target: Path) -> Path:
    shutil.copytree(root, target)
    return target


# ---- damages


class Scene(NamedTuple):
    """An archive to damage, and another one that has nothing to do with it."""

    root: Path
    other: Path
    kind: str

    @property
    def target(self) -> Path:
        return TARGETS[self.kind](self.root, ONE)

    @property
    def vital(self) -> int:
        """A place in the file where damage can be told: in a pack, amid the tensor body.weight."""
        if self.kind == "pack":
            return self.target.read_bytes().index(noise(10, 1000)) + 20_000
        return {"catalogue": BLOCK, "archive.json": 20}.get(self.kind, self.size // 2)

    @property
    def size(self) -> int:
        return self.target.stat().st_size

    def change(self, begin: int, data: bytes) -> None:
        old = self.target.read_bytes()
        overwrite(self.target, old[:begin] + data + old[begin + len(data) :])


def flip(scene: Scene) -> None:
    at = scene.vital
    scene.change(at, bytes([scene.target.read_bytes()[at] ^ 1]))


def zero(scene: Scene) -> None:
    """A block of a disk; a file that is smaller lies in one."""
    begin = scene.vital // BLOCK * BLOCK
    scene.change(begin, bytes(min(BLOCK, scene.size - begin)))


def cut(scene: Scene) -> None:
    overwrite(scene.target, scene.target.read_bytes()[: scene.size // 2])


def empty(scene: Scene) -> None:
    overwrite(scene.target, b"")


def remove(scene: Scene) -> None:
    scene.target.unlink()


def swap(scene: Scene) -> None:
    one = scene.target
    alone = scene.kind in {"archive.json", "catalogue"}
    two = TARGETS[scene.kind](scene.other if alone else scene.root, TWO)
    first, second = one.read_bytes(), two.read_bytes()
    overwrite(one, second)
    overwrite(two, first)


def add(scene: Scene) -> None:
    """Garbage of the same size, under a name that a file of the kind may have."""
    digest, target = "ab" * 32, scene.target
    old = target.name.split(".")
    name = ".".join(digest if len(part) == 64 else part for part in old)
    folder = target.parents[1] / "ab" if target.parent.name == target.name[:2] else target.parent
    if scene.kind == "catalogue":
        name += "-wal"
    overwrite(folder / name, noise(5, scene.size))


def lose_index(scene: Scene) -> None:
    data = scene.target.read_bytes()
    if scene.kind == "pack":
        begin = int.from_bytes(data[-8:], "little")
        scene.change(begin, bytes(len(data) - begin))
    else:
        scene.change(0, bytes(8 + int.from_bytes(data[4:8], "little")))


DAMAGES = {
    "flip": flip,
    "zero": zero,
    "cut": cut,
    "empty": empty,
    "missing": remove,
    "swapped": swap,
    "extra": add,
    "index lost": lose_index,
}
