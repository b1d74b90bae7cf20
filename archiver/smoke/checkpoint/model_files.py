"""Which files of weights make the model, chosen as transformers chooses them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from archiver.smoke.checkpoint.protocol import by_name
from archiver.tensors.header import HeaderError
from archiver.tensors.weight_files import (
    INDEX_MAX,
    SAFETENSORS,
    Index,
    is_index,
    owners_of,
    parse_index,
)
from archiver.text import human_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from archiver.smoke.checkpoint.protocol import Checkpoint, StoredTensor
    from archiver.tensors.header import Tensor

    Indexes = Mapping[str, "Index | str"]
    """By path: each index, or what the file is instead, to follow its name in a sentence."""

SUFFIX: Final = SAFETENSORS
SINGLE: Final = "model.safetensors"
"""Where it is there, transformers looks no further, whatever an index names."""
_MAIN: Final = "model.safetensors.index.json"
"""Where it is there, transformers looks at no other; the same weights may lie beside in another layout."""


def read_indexes(checkpoint: Checkpoint) -> Indexes:
    """Every index of safetensors files, those of folders in the repository too.

    Raises:
        DamageError: One cannot be read as it should be.
    """
    return {path: _read(checkpoint, path) for path in sorted(checkpoint.files) if is_index(path)}


def _read(checkpoint: Checkpoint, path: str) -> Index | str:
    try:
        data = checkpoint.read(path, INDEX_MAX)
    except ValueError:
        return f"is larger than {human_bytes(INDEX_MAX)}; it was not read"
    try:
        return parse_index(data)
    except ValueError as error:
        return f"is no index: {error}"


def model_files(checkpoint: Checkpoint, indexes: Indexes | None = None) -> list[str]:
    """The safetensors files that make the model, by path.

    The single file; else those that an index beside config.json names; else all there are.

    Args:
        checkpoint: Where they are.
        indexes: What `read_indexes` gave, if it was asked before: a large one takes a while.

    Raises:
        DamageError: An index cannot be read as it should be.
    """
    if SINGLE in checkpoint.files:
        return [SINGLE]
    found = sorted(path for path in checkpoint.files if path.endswith(SUFFIX))
    named = _named(read_indexes(checkpoint) if indexes is None else indexes)
    top = [path for path in found if "/" not in path]
    return [path for path in found if path in named] or top or found


def _named(indexes: Indexes) -> set[str]:
    """What the index names that is loaded from; level ``structure`` tells what is wrong with it."""
    top = [path for path in indexes if "/" not in path]
    chosen = [_MAIN] if _MAIN in indexes else top
    read = ((path, indexes[path]) for path in chosen)
    return {
        shard
        for path, one in read
        if not isinstance(one, str)
        for shard in owners_of(path, one).values()
    }


def model_tensors(
    checkpoint: Checkpoint, indexes: Indexes | None = None
) -> dict[str, StoredTensor]:
    """Their tensors, by name; those of a file whose header is not acceptable are left out.

    Arguments and errors as for `model_files`.
    """
    return by_name(_headers(checkpoint, model_files(checkpoint, indexes)))


def _headers(checkpoint: Checkpoint, files: list[str]) -> Iterator[tuple[str, tuple[Tensor, ...]]]:
    for path in files:
        try:
            yield path, checkpoint.header(path).tensors
        except HeaderError:
            continue
