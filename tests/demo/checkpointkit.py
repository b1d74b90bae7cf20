"""What the tests of the made-up checkpoints share: a reader of safetensors without that library."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def header(shard: Path) -> dict[str, dict]:
    data = shard.read_bytes()
    entries = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert entries.pop("__metadata__") == {"format": "pt"}
    return entries


def tensors(folder: Path) -> dict[str, dict]:
    return {name: entry for shard in shards(folder) for name, entry in header(shard).items()}


def read_json(folder: Path, name: str) -> dict:
    return json.loads((folder / name).read_text(encoding="utf-8"))


def digests(folder: Path) -> dict[str, str]:
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    return {name: tuple(entry["shape"]) for name, entry in tensors(folder).items()}


def raw(folder: Path, name: str) -> bytes:
    shard = next(shard for shard in shards(folder) if name in header(shard))
    data = shard.read_bytes()
    begin, end = header(shard)[name]["data_offsets"]
    start = 8 + int.from_bytes(data[:8], "little")
    return data[start + begin : start + end]


def bf16(folder: Path, name: str) -> np.ndarray:
    words = np.frombuffer(raw(folder, name), "<u2").astype(np.uint32) << 16
    return words.view(np.float32)
