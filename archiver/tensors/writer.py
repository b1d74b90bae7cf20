"""Writes a safetensors header, so that one tensor can be exported as a file of its own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from archiver.tensors.header import LENGTH_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_METADATA = "__metadata__"


def header_bytes(
    tensors: Iterable[tuple[str, str, Sequence[int], int]],
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """The beginning of a safetensors file, up to where the data of its tensors begins.

    Args:
        tensors: Name, dtype, shape and bytes of each tensor, in the order of their data.
        metadata: What to write as ``__metadata__``; nothing if it is None or empty.

    Raises:
        ValueError: A name occurs twice, or is the one that is kept for the metadata.
    """
    fields: dict[str, object] = {_METADATA: dict(metadata)} if metadata else {}
    at = 0
    for name, dtype, shape, size in tensors:
        if name in fields or name == _METADATA:
            raise ValueError(f"The name {name[:200]!r} is not free.")
        fields[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % LENGTH_BYTES)
    return len(text).to_bytes(LENGTH_BYTES, "little") + text
