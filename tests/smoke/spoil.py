"""Changes the tensors of a small model in a folder, and its index with them or not."""

from __future__ import annotations

import json
import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from archiver.tensors.dtypes import BITS
from archiver.tensors.header import header_bytes, parse_header

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

INDEX = "model.safetensors.index.json"
TEXT = "model.language_model.layers"


class Stored(NamedTuple):
    dtype: str
    shape: tuple[int, ...]
    data: bytes


def zeros(dtype: str, *shape: int) -> Stored:
    return Stored(dtype, shape, bytes(math.prod(shape) * BITS[dtype] // 8))


class Weights:
    """The tensors of a model, by shard; ``write`` puts them back."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.shards = {path.name: _read(path) for path in sorted(folder.glob("*.safetensors"))}

    @property
    def names(self) -> list[str]:
        return [name for shard in self.shards.values() for name in shard]

    def shard_of(self, name: str) -> dict[str, Stored]:
        return next(shard for shard in self.shards.values() if name in shard)

    def __getitem__(self, name: str) -> Stored:
        return self.shard_of(name)[name]

    def __setitem__(self, name: str, stored: Stored) -> None:
        """Put a tensor in place of one, or a new one into the last shard."""
        last = list(self.shards)[-1]
        owners = [shard for shard in self.shards.values() if name in shard]
        (owners[0] if owners else self.shards[last])[name] = stored

    def remove(self, *names: str) -> None:
        for name in names:
            del self.shard_of(name)[name]

    def rename(self, old: str, new: str) -> None:
        shard = self.shard_of(old)
        shard[new] = shard.pop(old)

    def retype(self, name: str, dtype: str) -> None:
        """Another dtype of the same width: only the header changes."""
        self[name] = self[name]._replace(dtype=dtype)

    def reshape(self, name: str, *shape: int) -> None:
        """Zeros of another shape."""
        self[name] = zeros(self[name].dtype, *shape)

    def write(self, *, index: bool) -> None:
        for name, shard in self.shards.items():
            listed = [(key, one.dtype, one.shape, len(one.data)) for key, one in shard.items()]
            data = b"".join(one.data for one in shard.values())
            (self._folder / name).write_bytes(header_bytes(listed, {"format": "pt"}) + data)
        if index and (self._folder / INDEX).exists():
            write_index(self._folder, self._weight_map(), self._size())

    def _weight_map(self) -> dict[str, str]:
        return {name: shard for shard, tensors in self.shards.items() for name in tensors}

    def _size(self) -> int:
        return sum(len(one.data) for shard in self.shards.values() for one in shard.values())


@contextmanager
def spoilt(folder: Path, *, index: bool = True) -> Iterator[Weights]:
    """The weights, to be changed in the block; ``index``: write an index that agrees with them."""
    weights = Weights(folder)
    yield weights
    weights.write(index=index)


def write_index(folder: Path, weight_map: dict[str, str], total_size: Any) -> None:
    content = {"metadata": {"total_size": total_size}, "weight_map": weight_map}
    (folder / INDEX).write_text(json.dumps(content), encoding="utf-8")


@contextmanager
def edited(path: Path) -> Iterator[Any]:
    """A JSON file, to be changed in the block."""
    content = json.loads(path.read_text(encoding="utf-8"))
    yield content
    path.write_text(json.dumps(content), encoding="utf-8")


def _read(path: Path) -> dict[str, Stored]:
    raw = path.read_bytes()
    return {
        one.name: Stored(one.dtype, one.shape, raw[one.begin : one.end])
        for one in parse_header(raw, len(raw)).tensors
    }


def swap_experts(weights: Weights) -> None:
    """Put two experts of one layer into each other's place."""
    name = f"{TEXT}.1.mlp.experts.down_proj"
    stored = weights[name]
    size = len(stored.data) // stored.shape[0]
    parts = [stored.data[at : at + size] for at in range(0, len(stored.data), size)]
    parts[0], parts[1] = parts[1], parts[0]
    weights[name] = stored._replace(data=b"".join(parts))
