"""The GPTQ-Int4 twin of a made-up model: 4-bit codes, a scale for each 128 inputs of an output.

The layout is that of AutoGPTQ, version 1, symmetric. For a layer of ``n`` inputs and ``m`` outputs:
``qweight`` is I32 of shape (n / 8, m), eight inputs to a word, the first in the lowest bits;
``scales`` is BF16 of shape (groups, m); ``qzeros`` is I32 of shape (groups, m / 8) and holds the zero
point less one; ``g_idx`` is I32 of shape (n,): the group of each input. The weight is about
(code - 8) times the scale.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from archiver.demo.linears import linears_of
from archiver.demo.stored import Stored
from archiver.demo.weights import as_bf16, from_bf16

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from archiver.demo.linears import Linear, Matrices
    from archiver.demo.tensor_list import Tensor

GROUP = 128
_BITS = 4
_IN_A_WORD = 32 // _BITS
_ZERO = 8
_LARGEST = 7


def is_quantised(tensor: Tensor) -> bool:
    """Whether the GPTQ repositories hold ``tensor`` in 4 bits: an MLP's weight, or the experts'.

    The shared expert and the MTP layer stay in BF16.
    """
    name = tensor.name.removesuffix(".weight")
    plain = name.startswith("mtp.") or ".shared_expert." in name
    return name.endswith(("gate_proj", "up_proj", "down_proj")) and not plain


def quantization_config() -> dict[str, Any]:
    """What ``config.json`` says; ``-:`` begins a pattern of what is not quantised."""
    kept = (".*attn.*", ".*shared_expert.*", ".*mtp.*", ".*visual.*")
    return {
        "bits": _BITS,
        "checkpoint_format": "gptq",
        "desc_act": False,
        "dynamic": {"lm_head": {}, **{f"-:{pattern}": {} for pattern in kept}},
        "group_size": GROUP,
        "lm_head": False,
        "pack_dtype": "int32",
        "quant_method": "gptq",
        "sym": True,
    }


def quantised(tensor: Tensor, matrices: Matrices) -> Iterator[Stored]:
    """Codes, zero points, scales and groups of each linear layer whose weight ``tensor`` holds."""
    for layer in linears_of(tensor):
        outputs, inputs = layer.shape
        groups = -(-inputs // GROUP)
        words = inputs // _IN_A_WORD
        at = layer.module
        yield Stored(f"{at}.g_idx", (inputs,), "I32", partial(_groups, layer))
        yield Stored(f"{at}.qweight", (words, outputs), "I32", partial(_codes, layer, matrices))
        yield Stored(f"{at}.qzeros", (groups, outputs // _IN_A_WORD), "I32", partial(_zeros, layer))
        yield Stored(f"{at}.scales", (groups, outputs), "BF16", partial(_scales, layer, matrices))


def _groups(layer: Linear) -> Iterator[bytes]:
    yield (np.arange(layer.shape[1], dtype="<i4") // GROUP).tobytes()


def _zeros(layer: Linear) -> Iterator[bytes]:
    outputs, inputs = layer.shape
    yield bytes([(_ZERO - 1) * 0x11]) * (-(-inputs // GROUP) * outputs // 2)


def _scales(layer: Linear, matrices: Matrices) -> Iterator[bytes]:
    yield _scale(layer.values(matrices)).T.tobytes()


def _codes(layer: Linear, matrices: Matrices) -> Iterator[bytes]:
    weight = layer.values(matrices)
    scale = from_bf16(_scale(weight)).repeat(GROUP, axis=1)[:, : weight.shape[1]]
    codes = np.clip(np.rint(weight / scale), -_ZERO, _LARGEST).astype(np.int8) + _ZERO
    words = codes.astype(np.uint32).reshape(len(codes), -1, _IN_A_WORD)
    shifts = np.arange(0, 32, _BITS, dtype=np.uint32)
    yield np.bitwise_or.reduce(words << shifts, axis=2).T.astype("<u4").tobytes()


def _scale(weight: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The BF16 scale of each group of inputs, for each output."""
    starts = range(0, weight.shape[1], GROUP)
    largest: NDArray[np.float32] = np.maximum.reduceat(np.abs(weight), starts, axis=1)
    return as_bf16(largest / np.float32(_LARGEST))
