"""GPTQ weights as plain numbers: each matrix is made of its codes, zero points and scales when it is read.

The layout is told in ``checkpoint/gptq.py``. The weight of output o and input i is

    (code[i, o] - zero[g_idx[i], o]) * scale[g_idx[i], o]

transformers leaves GPTQ to the kernels of other libraries; here its loader gets an operation that undoes
it, as it has one for FP8.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Final

import torch
from transformers.core_model_loading import ConversionOps, WeightConverter
from transformers.quantizers.auto import register_quantization_config, register_quantizer
from transformers.quantizers.base import HfQuantizer
from transformers.quantizers.quantizers_utils import get_module_from_name
from transformers.utils.quantization_config import QuantizationConfigMixin

from archiver.smoke.checkpoint.gptq import BITS, PARTS, WORD, bits_of, kind_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from archiver.smoke.checkpoint.gptq import Kind

METHOD: Final = "gptq-dequantized"
"""What it is called in transformers' registry, where ``gptq`` is what needs a library."""
_ANY: Final = "\\"
"""Before a dot: begins a pattern for the layers that no conversion of the model's own names."""
_AT_ONCE: Final = 1 << 16
"""Weights that are unpacked at once. So many stay in a processor's cache: 1.5 times as fast as 2^20."""


class GptqConfig(QuantizationConfigMixin):  # type: ignore[misc]  # to mypy transformers has no types
    """The kind of it; made of ``quantization_config``. UnknownKindError if that is not known here."""

    dequantize = True

    def __init__(self, **said: Any) -> None:
        self.quant_method = METHOD
        self.kind = kind_of(said)


class GptqDequantizer(HfQuantizer):  # type: ignore[misc]  # as above
    """Tells the loader that a weight is made of `PARTS`, also where it then merges experts."""

    quantization_config: GptqConfig
    serialized_names = {"weight": ["weight", *PARTS]}  # noqa: RUF012 - overrides the base's attribute

    def get_load_operations(self) -> dict[str, Any]:
        """The loader's name of what runs before the model's own conversions."""
        return {"dequantize": GptqDequantize}

    def get_weight_conversions(self) -> list[Any]:
        """For a weight that the model's own conversions do not name."""
        return [
            WeightConverter([rf"\.{part}" for part in PARTS], ".weight", [GptqDequantize(self)])
        ]

    def is_serializable(self) -> bool:
        """Nothing is ever saved."""
        return False

    @property
    def is_trainable(self) -> bool:
        """Nothing is ever trained."""
        return False


class GptqDequantize(ConversionOps):  # type: ignore[misc]  # as above
    """The first operation of a conversion: of each `PARTS` under one pattern makes the weights.

    The lists under the patterns belong together by place. What comes as ``weight`` stays as it is.
    """

    def __init__(self, hf_quantizer: GptqDequantizer) -> None:
        self.hf_quantizer = hf_quantizer

    @torch.no_grad()
    def convert(
        self,
        input_dict: dict[str, Any],
        full_layer_name: str | None = None,
        model: Any = None,
        **_options: Any,
    ) -> dict[str, Any]:
        """Called by the loader; ValueError if the parts do not fit each other."""
        dtype = _dtype_of(model, full_layer_name)
        made: dict[str, Any] = {}
        for key in list(input_dict):
            start, _, part = key.rpartition(".")
            if part == PARTS[0]:
                weights = self._weights(input_dict, start, dtype)
                if full_layer_name is not None and start == _ANY:
                    made[full_layer_name] = weights[0]
                else:
                    made[f"{start}.weight"] = weights
            elif part not in PARTS:
                made[key] = input_dict[key]
        return made

    def _weights(self, found: dict[str, Any], start: str, dtype: torch.dtype) -> list[torch.Tensor]:
        lists: dict[str, list[torch.Tensor | None]] = {
            part: _listed(found.get(f"{start}.{part}", [])) for part in PARTS
        }
        if not lists["g_idx"]:
            lists["g_idx"] = [None] * len(lists["qweight"])
        if len({len(one) for one in lists.values()}) > 1:
            counts = ", ".join(f"{len(one)} {part}" for part, one in lists.items())
            message = f"These belong together, and are not of one number: {counts}"
            raise ValueError(message)
        kind = self.hf_quantizer.quantization_config.kind
        return [
            dequantized(dict(zip(PARTS, parts, strict=True)), kind, dtype)
            for parts in zip(*lists.values(), strict=True)
        ]


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _dtype_of(model: Any, name: str | None) -> torch.dtype:
    """What the model has the parameter in, or what stands for it while it is streamed."""
    if model is None or name is None:
        return torch.bfloat16
    module, last = get_module_from_name(model, name)
    found: torch.dtype = getattr(module, last).dtype
    return found


def dequantized(
    parts: Mapping[str, torch.Tensor | None], kind: Kind, dtype: torch.dtype
) -> torch.Tensor:
    """One weight, (outputs, inputs). Computed in float32, then cast once.

    Raises:
        ValueError: A part is missing, or the parts do not fit each other.
    """
    qweight, qzeros, scales = (_present(parts, part) for part in PARTS[:3])
    groups, outputs = scales.shape
    bits, group_of = _groups(parts["g_idx"], qweight, kind)
    per_word = WORD // bits
    if qweight.shape[1] != outputs or qzeros.shape != (groups, -(-outputs // per_word)):
        shapes = ", ".join(f"{part} {list(_present(parts, part).shape)}" for part in PARTS[:3])
        message = f"These shapes do not fit each other: {shapes}"
        raise ValueError(message)
    if len(group_of) and not 0 <= int(group_of.min()) <= int(group_of.max()) < groups:
        message = f"g_idx names group {int(group_of.max())}; there are {groups}"
        raise ValueError(message)
    mask = (1 << bits) - 1
    zeros = (_codes(qzeros.T, bits).T[:, :outputs] + kind.added) & mask
    scales, zeros = scales.float(), zeros.float()
    made = torch.empty(outputs, len(group_of), dtype=dtype)
    step = max(1, _AT_ONCE // max(1, outputs * per_word))
    for first in range(0, len(qweight), step):
        rows = slice(first * per_word, (first + step) * per_word)
        group = group_of[rows]
        codes = _codes(qweight[first : first + step], bits)[: len(group)].float()
        made[:, rows] = ((codes - zeros[group]) * scales[group]).T.to(dtype)
    return made


def _present(parts: Mapping[str, torch.Tensor | None], part: str) -> torch.Tensor:
    found = parts.get(part)
    if found is None or found.ndim != 2:  # noqa: PLR2004 - a matrix
        message = f"There is no matrix {part}"
        raise ValueError(message)
    return found


def _groups(
    g_idx: torch.Tensor | None, qweight: torch.Tensor, kind: Kind
) -> tuple[int, torch.Tensor]:
    """In how many bits the layer is packed, which may be its own, and the group of each input."""
    if g_idx is None:
        inputs = len(qweight) * WORD // kind.bits
        return kind.bits, torch.arange(inputs) // (kind.group_size or max(1, inputs))
    bits = bits_of(len(qweight), len(g_idx), kind.bits)
    if bits in BITS:
        return bits, g_idx.long()
    message = f"{len(qweight)} rows of words do not hold {len(g_idx)} inputs"
    raise ValueError(message)


def _codes(packed: torch.Tensor, bits: int) -> torch.Tensor:
    """The codes packed along dimension 0: (words, m) to (32 words / bits, m)."""
    shifts = torch.arange(0, WORD, bits, dtype=torch.int32)
    codes = (packed[:, None, :] >> shifts[None, :, None]) & ((1 << bits) - 1)
    return codes.reshape(len(packed) * len(shifts), packed.shape[1])


@cache
def register() -> None:
    """Make it known to transformers."""
    register_quantization_config(METHOD)(GptqConfig)
    register_quantizer(METHOD)(GptqDequantizer)
