"""Tensors that share their numbers with another one, and are stored under that one's name alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archiver.smoke.structure.tied import EMBEDDINGS, HEAD

if TYPE_CHECKING:
    from collections.abc import Collection

    from archiver.tensors.header import Header


def shared_tensors(headers: Collection[Header], *, tied: bool) -> dict[str, int]:
    """Names that no shard has although they stand for a tensor, with its size in bytes.

    A header's ``__metadata__`` gives the name that was kept for each that was left out (safetensors'
    ``save_model``, and the converter of pickles on the Hub). ``tied`` says that the head is the
    embedding, as the config has it.
    """
    sizes = {one.name: one.end - one.begin for header in headers for one in header.tensors}
    kept = {name: one for header in headers for name, one in header.metadata.items()}
    embedding = next((one for one in EMBEDDINGS if one in sizes), None)
    if tied and embedding is not None:
        kept[HEAD] = embedding
    return {name: sizes[one] for name, one in kept.items() if one in sizes and name not in sizes}
