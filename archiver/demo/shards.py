"""Shards of safetensors with the official names, and their index, written by hand.

A file is 8 bytes of header length, the header as JSON padded with spaces to a multiple of 8, then
the tensors without gaps. Their order is the one that the safetensors library writes: wide dtypes
first, then by name. Qwen3.5 names its shards ``model.safetensors-00001-of-00002.safetensors``,
and there is an index also beside a single shard.
"""

from __future__ import annotations

import json
from math import prod
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

INDEX = "model.safetensors.index.json"
_ALIGNMENT = 8

Dtype = Literal["F32", "I32", "BF16", "F8_E4M3"]
WIDTHS: dict[Dtype, int] = {"F32": 4, "I32": 4, "BF16": 2, "F8_E4M3": 1}
"""Bytes of a value, in the order in which the safetensors library writes the dtypes."""


class StoredTensor(NamedTuple):
    """One tensor of a shard; ``data`` makes its bytes, block by block."""

    name: str
    shape: tuple[int, ...]
    dtype: Dtype
    data: Callable[[], Iterable[bytes]]

    @property
    def size(self) -> int:
        """Bytes of the tensor's data."""
        return prod(self.shape) * WIDTHS[self.dtype]

    @property
    def file_order(self) -> tuple[int, str]:
        """Sorts the tensors of a shard: wide dtypes first, then by name."""
        return list(WIDTHS).index(self.dtype), self.name


def write_shards(folder: Path, tensors: list[StoredTensor], *, count: int) -> None:
    """Write ``tensors`` as at most ``count`` shards of about the same size, and the index."""
    shards = _deal(tensors, count)
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        name = f"model.safetensors-{number:05d}-of-{len(shards):05d}.safetensors"
        _write_shard(folder / name, sorted(shard, key=lambda tensor: tensor.file_order))
        weight_map |= dict.fromkeys((tensor.name for tensor in shard), name)
    total = sum(tensor.size for tensor in tensors)
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    text = json.dumps(index, indent=2, sort_keys=True) + "\n"
    (folder / INDEX).write_text(text, encoding="utf-8")


def _deal(tensors: list[StoredTensor], count: int) -> list[list[StoredTensor]]:
    """Return the tensors in order, cut where an equal share of the bytes is full; no shard is empty."""
    share = sum(tensor.size for tensor in tensors) / max(1, count)
    shards: dict[int, list[StoredTensor]] = {}
    begin = 0
    for tensor in tensors:
        shards.setdefault(int(begin // share), []).append(tensor)
        begin += tensor.size
    return list(shards.values())


def _write_shard(path: Path, tensors: list[StoredTensor]) -> None:
    with path.open("wb") as file:
        file.write(_header(tensors))
        for tensor in tensors:
            file.writelines(tensor.data())


def _header(tensors: list[StoredTensor]) -> bytes:
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for tensor in tensors:
        begin, end = end, end + tensor.size
        entries[tensor.name] = {
            "dtype": tensor.dtype,
            "shape": tensor.shape,
            "data_offsets": [begin, end],
        }
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text
