"""The FP8 twin of a made-up model: E4M3 codes with a BF16 scale for each block of 128 by 128.

A weight is about its code's value times the scale of its block, which lies in ``.weight_scale_inv``.
The real repositories' arithmetic is not public to the last bit: this is the plainest one.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from archiver.demo.linears import linears_of
from archiver.demo.stored import Stored
from archiver.demo.weights import as_bf16, from_bf16

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from archiver.demo.linears import Linear, Matrices
    from archiver.demo.tensor_list import Tensor

BLOCK = 128
_SIGN = np.uint8(0x80)
# The largest FP8 repository has 94,078 scales: as many as it has such layers, MTP's included.
_LAYERS = frozenset(
    {"q_proj", "k_proj", "v_proj", "o_proj", "in_proj_qkv", "in_proj_z", "out_proj"}
    | {"gate_proj", "up_proj", "down_proj", "gate_up_proj"}
)


def _values() -> NDArray[np.float32]:
    """What the codes from 0x00 to 0x7E stand for: 4 bits of exponent, 3 of mantissa, bias 7.

    The format is that of OCP 8-bit Floating Point (OFP8), without infinities; 0x7F is NaN.
    """
    codes = np.arange(0x7F)
    exponent, mantissa = codes >> 3, codes & 7
    normal = np.ldexp(1 + mantissa / 8, exponent - 7)
    return np.where(exponent, normal, np.ldexp(mantissa / 8, -6)).astype(np.float32)


VALUES = _values()
"""The values of the codes without a sign, upwards; the last is 448."""
_BETWEEN = (VALUES[1:] + VALUES[:-1]) / 2


def is_quantised(tensor: Tensor) -> bool:
    """Whether the FP8 repositories hold ``tensor`` as FP8."""
    return tensor.name.removesuffix(".weight").rpartition(".")[2] in _LAYERS


def quantization_config(plain: Iterable[str]) -> dict[str, Any]:
    """What ``config.json`` says, where the tensors named ``plain`` are in BF16."""
    modules = (name.removesuffix(".weight") for name in plain if name.endswith(".weight"))
    return {
        "activation_scheme": "dynamic",
        "modules_to_not_convert": [name for name in modules if "norm" not in name],
        "quant_method": "fp8",
        "weight_block_size": [BLOCK, BLOCK],
    }


def quantised(tensor: Tensor, matrices: Matrices) -> Iterator[Stored]:
    """Codes and scales of each linear layer whose weight ``tensor`` holds."""
    for layer in linears_of(tensor):
        rows, width = layer.shape
        grid = -(-rows // BLOCK), -(-width // BLOCK)
        codes, scales = partial(_codes, layer, matrices), partial(_scales, layer, matrices)
        yield Stored(f"{layer.module}.weight", layer.shape, "F8_E4M3", codes)
        yield Stored(f"{layer.module}.weight_scale_inv", grid, "BF16", scales)


def _codes(layer: Linear, matrices: Matrices) -> Iterator[bytes]:
    for band in _bands(layer, matrices):
        scale = np.repeat(from_bf16(_scale(band)), BLOCK)[: band.shape[1]]
        yield e4m3(band / scale).tobytes()


def _scales(layer: Linear, matrices: Matrices) -> Iterator[bytes]:
    for band in _bands(layer, matrices):
        yield _scale(band).tobytes()


def _bands(layer: Linear, matrices: Matrices) -> Iterator[NDArray[np.float32]]:
    """The weight, as many rows at a time as a block has."""
    weight = layer.values(matrices)
    return (weight[row : row + BLOCK] for row in range(0, layer.rows, BLOCK))


def _scale(band: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The BF16 scale of each block of ``band``: its largest value becomes the largest code."""
    columns = np.abs(band).max(axis=0)
    return as_bf16(np.maximum.reduceat(columns, range(0, len(columns), BLOCK)) / VALUES[-1])


def e4m3(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The E4M3 codes nearest to ``values``, ties to even; what is too large becomes the largest."""
    size = np.abs(values)
    below, above = (np.searchsorted(_BETWEEN, size, side) for side in ("left", "right"))
    codes = np.where(below % 2, above, below).astype(np.uint8)
    codes[np.signbit(values)] |= _SIGN
    return codes
