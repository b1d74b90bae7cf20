"""Which files of weights make the model, chosen as transformers chooses them."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, Any, Final

import msgspec

from archiver.smoke.checkpoint.protocol import by_name
from archiver.tensors.header import HeaderError
from archiver.text import human_bytes, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.smoke.checkpoint.protocol import Checkpoint, StoredTensor
    from archiver.tensors.header import Tensor

SUFFIX: Final = ".safetensors"
INDEX_SUFFIX: Final = ".safetensors.index.json"
SINGLE: Final = "model.safetensors"
"""Where it is there, transformers looks no further, whatever an index names."""
_MOST_BYTES: Final = 64 * 1024 * 1024
"""The index of Qwen3.5-397B-A17B-FP8, 189,042 tensors, has 24 MB."""


class Index(msgspec.Struct):
    """An index as it is written: ``weight_map`` gives the shard of each tensor."""

    weight_map: dict[str, str]
    metadata: dict[str, Any] | None = None


def index_files(checkpoint: Checkpoint) -> list[str]:
    """Every index of safetensors files."""
    return [path for path in sorted(checkpoint.files) if path.endswith(INDEX_SUFFIX)]


def read_index(checkpoint: Checkpoint, path: str) -> Index:
    """An index; ValueError says what it is instead."""
    try:
        return msgspec.json.decode(checkpoint.read(path, _MOST_BYTES), type=Index)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"is no index: {printable(str(error))}") from None
    except ValueError:
        raise ValueError(f"is larger than {human_bytes(_MOST_BYTES)}; it was not read") from None


def owners_of(path: str, index: Index) -> dict[str, str]:
    """The shard of each tensor, as a path of the checkpoint; the index names it from its own folder."""
    folder = posixpath.dirname(path)
    return {name: posixpath.join(folder, shard) for name, shard in index.weight_map.items()}


def model_files(checkpoint: Checkpoint) -> list[str]:
    """The safetensors files that make the model, by path.

    The single file; else those that an index beside config.json names; else all there are.
    """
    if SINGLE in checkpoint.files:
        return [SINGLE]
    found = sorted(path for path in checkpoint.files if path.endswith(SUFFIX))
    named = {shard for path in index_files(checkpoint) for shard in _named(checkpoint, path)}
    top = [path for path in found if "/" not in path]
    return [path for path in found if path in named] or top or found


def _named(checkpoint: Checkpoint, path: str) -> set[str]:
    if "/" in path:
        return set()
    try:
        return set(owners_of(path, read_index(checkpoint, path)).values())
    except ValueError:
        return set()  # level structure tells what is wrong with it


def model_tensors(checkpoint: Checkpoint) -> dict[str, StoredTensor]:
    """Their tensors, by name; those of a file whose header is not acceptable are left out."""
    return by_name(_headers(checkpoint))


def _headers(checkpoint: Checkpoint) -> Iterator[tuple[str, tuple[Tensor, ...]]]:
    for path in model_files(checkpoint):
        try:
            yield path, checkpoint.header(path).tensors
        except HeaderError:
            continue
