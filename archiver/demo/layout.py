"""The tensors of a checkpoint as its shards hold them, whichever kind it is."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from archiver.demo import fp8, gptq
from archiver.demo.linears import matrices_of
from archiver.demo.stored import Stored
from archiver.demo.tensor_list import tensors_of
from archiver.demo.weights import weights

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.demo.kind import Kind
    from archiver.demo.tensor_list import Tensor


def quantization_config(kind: Kind) -> dict[str, Any] | None:
    """What ``config.json`` says of the quantisation; None for a model in BF16."""
    if kind.quantisation is None:
        return None
    if kind.quantisation == "gptq":
        return gptq.quantization_config()
    plain = (tensor for tensor in _stored(kind, seed=0) if tensor.dtype == "BF16")
    return fp8.quantization_config(tensor.name for tensor in plain)


def stored_tensors(kind: Kind, seed: int) -> list[Stored]:
    """Every tensor of the shards, in the model's order.

    The values depend on the seed and on the name beside a vision tower: each kind has the same.
    """
    return list(_stored(kind, seed))


def _stored(kind: Kind, seed: int) -> Iterator[Stored]:
    matrices = matrices_of(seed)
    for tensor in tensors_of(kind.sizes, vision=kind.vision, tied=kind.tied):
        if kind.quantisation == "fp8" and fp8.is_quantised(tensor):
            stored = fp8.quantised(tensor, matrices)
        elif kind.quantisation == "gptq" and gptq.is_quantised(tensor):
            stored = gptq.quantised(tensor, matrices)
        else:
            stored = iter([_plain(tensor, seed)])
        yield from stored if kind.vision else map(_text_only, stored)


def _plain(tensor: Tensor, seed: int) -> Stored:
    return Stored(tensor.name, tensor.shape, tensor.dtype, partial(weights, tensor, seed))


def _text_only(tensor: Stored) -> Stored:
    """A model for text alone has its layers one level higher."""
    return tensor._replace(name=tensor.name.replace("model.language_model.", "model."))
