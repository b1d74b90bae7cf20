"""How a checkpoint stores its tensors: in BF16, or quantised to FP8 or to GPTQ-Int4.

FP8: E4M3 codes with a BF16 scale for each block of 128 by 128. A weight is about its code's value times
the scale of its block, which lies in ``.weight_scale_inv``. The real repositories' arithmetic is not
public to the last bit: this is the plainest one.

GPTQ: 4-bit codes, and a scale for each 128 inputs of an output. The layout is that of AutoGPTQ, version
1, symmetric. For a layer of ``n`` inputs and ``m`` outputs: ``qweight`` is I32 of shape (n / 8, m),
eight inputs to a word, the first in the lowest bits; ``scales`` is BF16 of shape (groups, m);
``qzeros`` is I32 of shape (groups, m / 8) and holds the zero point less one; ``g_idx`` is I32 of shape
(n,): the group of each input. The weight is about (code - 8) times the scale.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from archiver.demo.architecture import tensors_of
from archiver.demo.shards import StoredTensor
from archiver.demo.weights import as_bf16, from_bf16, linears_of, matrix, weights

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from archiver.demo.architecture import Tensor, Variant
    from archiver.demo.weights import Linear, Matrices


def stored_tensors(variant: Variant, seed: int) -> Iterator[StoredTensor]:
    """Yield every tensor of the shards, in the model's order.

    The values depend on the seed and on the name beside a vision tower: each variant has the same.
    """
    # The two latest matrices are held, because the layers of an expert lie in two fused tensors.
    matrices = lru_cache(maxsize=2)(partial(matrix, seed=seed))
    for tensor in tensors_of(variant):
        if variant.quantisation == "fp8" and _is_fp8(tensor):
            stored = _fp8_tensors(tensor, matrices)
        elif variant.quantisation == "gptq" and _is_gptq(tensor):
            stored = _gptq_tensors(tensor, matrices)
        else:
            data = partial(weights, tensor, seed)
            stored = iter([StoredTensor(tensor.name, tensor.shape, tensor.dtype, data)])
        for part in stored:
            # A model for text alone has its layers one level higher.
            name = (
                part.name
                if variant.vision
                else part.name.replace("model.language_model.", "model.")
            )
            yield part._replace(name=name)


def quantization_config(variant: Variant) -> dict[str, Any] | None:
    """Return what ``config.json`` says of the quantisation; None for a model in BF16."""
    match variant.quantisation:
        case "fp8":
            stored = stored_tensors(variant, seed=0)
            plain = (tensor.name for tensor in stored if tensor.dtype == "BF16")
            modules = (name.removesuffix(".weight") for name in plain if name.endswith(".weight"))
            return {
                "activation_scheme": "dynamic",
                "modules_to_not_convert": [name for name in modules if "norm" not in name],
                "quant_method": "fp8",
                "weight_block_size": [FP8_BLOCK, FP8_BLOCK],
            }
        case "gptq":
            # "-:" begins a pattern of what is not quantised.
            plain_patterns = (".*attn.*", ".*shared_expert.*", ".*mtp.*", ".*visual.*")
            return {
                "bits": _GPTQ_BITS,
                "checkpoint_format": "gptq",
                "desc_act": False,
                "dynamic": {"lm_head": {}, **{f"-:{pattern}": {} for pattern in plain_patterns}},
                "group_size": GPTQ_GROUP,
                "lm_head": False,
                "pack_dtype": "int32",
                "quant_method": "gptq",
                "sym": True,
            }
        case None:
            return None


def _e4m3_values() -> NDArray[np.float32]:
    """Return what the codes from 0x00 to 0x7E stand for: 4 bits of exponent, 3 of mantissa, bias 7.

    The format is that of OCP 8-bit Floating Point (OFP8), without infinities; 0x7F is NaN.
    """
    codes = np.arange(0x7F)
    exponent, mantissa = codes >> 3, codes & 7
    normal = np.ldexp(1 + mantissa / 8, exponent - 7)
    return np.where(exponent, normal, np.ldexp(mantissa / 8, -6)).astype(np.float32)


FP8_BLOCK = 128
E4M3_VALUES = _e4m3_values()
"""The values of the codes without a sign, upwards; the last is 448."""
_E4M3_BETWEEN = (E4M3_VALUES[1:] + E4M3_VALUES[:-1]) / 2
_E4M3_SIGN = np.uint8(0x80)
# The largest FP8 repository has 94,078 scales: as many as it has such layers, MTP's included.
_FP8_LAYERS = frozenset(
    {"q_proj", "k_proj", "v_proj", "o_proj", "in_proj_qkv", "in_proj_z", "out_proj"}
    | {"gate_proj", "up_proj", "down_proj", "gate_up_proj"}
)


def _is_fp8(tensor: Tensor) -> bool:
    """Return whether the FP8 repositories hold ``tensor`` as FP8."""
    return tensor.name.removesuffix(".weight").rpartition(".")[2] in _FP8_LAYERS


def _fp8_tensors(tensor: Tensor, matrices: Matrices) -> Iterator[StoredTensor]:
    """Yield codes and scales of each linear layer whose weight ``tensor`` holds."""
    for layer in linears_of(tensor):
        rows, width = layer.shape
        grid = -(-rows // FP8_BLOCK), -(-width // FP8_BLOCK)
        codes, scales = partial(_fp8_codes, layer, matrices), partial(_fp8_scales, layer, matrices)
        yield StoredTensor(f"{layer.module}.weight", layer.shape, "F8_E4M3", codes)
        yield StoredTensor(f"{layer.module}.weight_scale_inv", grid, "BF16", scales)


def _fp8_codes(layer: Linear, matrices: Matrices) -> Iterator[bytes]:
    for band in _fp8_bands(layer, matrices):
        scale = np.repeat(from_bf16(_fp8_scale(band)), FP8_BLOCK)[: band.shape[1]]
        yield e4m3(band / scale).tobytes()


def _fp8_scales(layer: Linear, matrices: Matrices) -> Iterator[bytes]:
    for band in _fp8_bands(layer, matrices):
        yield _fp8_scale(band).tobytes()


def _fp8_bands(layer: Linear, matrices: Matrices) -> Iterator[NDArray[np.float32]]:
    """Yield the weight, as many rows at a time as a block has."""
    weight = layer.values(matrices)
    return (weight[row : row + FP8_BLOCK] for row in range(0, layer.rows, FP8_BLOCK))


def _fp8_scale(band: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Return the BF16 scale of each block of ``band``: its largest value becomes the largest code."""
    columns = np.abs(band).max(axis=0)
    largest = np.maximum.reduceat(columns, range(0, len(columns), FP8_BLOCK))
    return as_bf16(largest / E4M3_VALUES[-1])


def e4m3(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the E4M3 codes nearest to ``values``, ties to even; what is too large becomes the largest."""
    size = np.abs(values)
    below, above = (np.searchsorted(_E4M3_BETWEEN, size, side) for side in ("left", "right"))
    codes = np.where(below % 2, above, below).astype(np.uint8)
    codes[np.signbit(values)] |= _E4M3_SIGN
    return codes


GPTQ_GROUP = 128
_GPTQ_BITS = 4
_GPTQ_CODES_A_WORD = 32 // _GPTQ_BITS
_GPTQ_ZERO = 8
_GPTQ_LARGEST = 7


def _is_gptq(tensor: Tensor) -> bool:
    """Return whether the GPTQ repositories hold ``tensor`` in 4 bits: an MLP's weight, or the experts'.

    The shared expert and the MTP layer stay in BF16.
    """
    name = tensor.name.removesuffix(".weight")
    plain = name.startswith("mtp.") or ".shared_expert." in name
    return name.endswith(("gate_proj", "up_proj", "down_proj")) and not plain


def _gptq_tensors(tensor: Tensor, matrices: Matrices) -> Iterator[StoredTensor]:
    """Yield groups, codes, zero points and scales of each linear layer whose weight ``tensor`` holds."""
    for layer in linears_of(tensor):
        outputs, inputs = layer.shape
        groups = -(-inputs // GPTQ_GROUP)
        words, zeros = (inputs // _GPTQ_CODES_A_WORD, outputs), outputs // _GPTQ_CODES_A_WORD
        codes, scales = (
            partial(_gptq_codes, layer, matrices),
            partial(_gptq_scales, layer, matrices),
        )
        at = layer.module
        yield StoredTensor(f"{at}.g_idx", (inputs,), "I32", partial(_gptq_groups, inputs))
        yield StoredTensor(f"{at}.qweight", words, "I32", codes)
        yield StoredTensor(
            f"{at}.qzeros", (groups, zeros), "I32", partial(_gptq_zeros, groups, zeros)
        )
        yield StoredTensor(f"{at}.scales", (groups, outputs), "BF16", scales)


def _gptq_groups(inputs: int) -> Iterator[bytes]:
    yield (np.arange(inputs, dtype="<i4") // GPTQ_GROUP).tobytes()


def _gptq_zeros(groups: int, words: int) -> Iterator[bytes]:
    yield bytes([(_GPTQ_ZERO - 1) * 0x11]) * (groups * words * 4)


def _gptq_scales(layer: Linear, matrices: Matrices) -> Iterator[bytes]:
    yield _gptq_scale(layer.values(matrices)).T.tobytes()


def _gptq_codes(layer: Linear, matrices: Matrices) -> Iterator[bytes]:
    weight = layer.values(matrices)
    scale = from_bf16(_gptq_scale(weight)).repeat(GPTQ_GROUP, axis=1)[:, : weight.shape[1]]
    signed = np.clip(np.rint(weight / scale), -_GPTQ_ZERO, _GPTQ_LARGEST).astype(np.int8)
    codes = (signed + _GPTQ_ZERO).astype(np.uint32).reshape(len(signed), -1, _GPTQ_CODES_A_WORD)
    shifts = np.arange(0, 32, _GPTQ_BITS, dtype=np.uint32)
    yield np.bitwise_or.reduce(codes << shifts, axis=2).T.astype("<u4").tobytes()


def _gptq_scale(weight: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Return the BF16 scale of each group of inputs, for each output."""
    starts = range(0, weight.shape[1], GPTQ_GROUP)
    largest: NDArray[np.float32] = np.maximum.reduceat(np.abs(weight), starts, axis=1)
    return as_bf16(largest / np.float32(_GPTQ_LARGEST))
