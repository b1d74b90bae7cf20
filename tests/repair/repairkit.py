"""Archives to damage and repair, and what must hold afterwards."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from kit.archive import seals
from kit.repository import bf16, noise

from archiver.tensors.header import header_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from kit.cli import Result

ONE, TWO = "org/one", "org/two"


def sources(result: Result) -> dict[str, str]:
    """Stored name -> where it came from."""
    return {row["name"]: row["source"] for row in result.kinds("mended")}


def model(seed: int) -> dict[str, bytes]:
    """A small model: four tensors, of which two are shared by all models, and a text file."""
    tensors = [
        ("body.weight", "U8", (40, 1000), noise(seed, 40_000)),
        ("head.weight", "U8", (7, 300), noise(seed + 1, 2100)),
        ("shared.weight", "U8", (20, 500), noise(999, 10_000)),
        ("norm.weight", "BF16", (64, 128), bf16(seed + 2, 64, 128)),
    ]
    head = header_bytes([(name, kind, shape, len(data)) for name, kind, shape, data in tensors])
    weights = bytes(head) + b"".join(data for *_, data in tensors)
    return {"model.safetensors": weights, "config.json": b'{"seed": %d}' % seed}


def packs(root: Path, repository: str = ONE) -> list[Path]:
    """The packs that the repository's newest seal names."""
    read = [json.loads(path.read_bytes()) for path in seals(root, repository)]
    seal = max(read, key=lambda seal: seal["sealed"])
    return [root / "packs" / name[:2] / f"{name}.pack" for name, _ in seal["packs"]]


def own_pack(root: Path, repository: str = ONE) -> Path:
    """The pack that only this repository needs, or the one that it has."""
    mine = packs(root, repository)
    other = TWO if repository == ONE else ONE
    return next((pack for pack in mine if pack not in packs(root, other)), mine[0])


def only(paths) -> Path:
    (path,) = [path for path in paths if path.is_file()]
    return path


def manifest(root: Path, repository: str = ONE) -> Path:
    return only((root / "manifests" / repository).iterdir())


def events(root: Path, name: str = "") -> list[dict]:
    read = [json.loads(path.read_bytes()) for path in sorted((root / "journal").rglob("*.json"))]
    return [event for event in read if event["event"] == (name or event["event"])]


def listing(root: Path) -> dict[str, tuple[bytes, int, int]]:
    """Every file below a folder: bytes, mode, time of change."""
    return {
        str(path.relative_to(root)): (
            path.read_bytes() if path.is_file() else b"",
            path.lstat().st_mode,
            path.lstat().st_mtime_ns,
        )
        for path in root.rglob("*")
    }


def stored(root: Path) -> dict[str, bytes]:
    """The packs, manifests and seals of an archive."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for folder in ("packs", "manifests", "snapshots")
        for path in (root / folder).rglob("*")
        if path.is_file()
    }
