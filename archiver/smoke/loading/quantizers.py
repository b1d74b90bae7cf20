"""Quantized weights are computed with as plain numbers: transformers' loader undoes them as they are read.

For FP8 it has an operation of its own. GPTQ it leaves to the kernels of other libraries; here it gets an
operation that undoes it. These are inner functions of its loader (5.23), which may change.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import torch
from transformers.core_model_loading import ConversionOps, WeightConverter
from transformers.quantizers.auto import register_quantization_config, register_quantizer
from transformers.quantizers.base import HfQuantizer
from transformers.quantizers.quantizers_utils import get_module_from_name
from transformers.utils.quantization_config import QuantizationConfigMixin

from archiver.smoke.checkpoint.gptq import PARTS, kind_of
from archiver.smoke.loading.gptq import dequantized

METHOD: Final = "gptq-dequantized"
"""What it is called in transformers' registry, where ``gptq`` is what needs a library."""
_ANY: Final = "\\"
"""Before a dot: begins a pattern for the layers that no conversion of the model's own names."""


def dequantizing(config: Any) -> None:
    """Change transformers' config so that FP8 and GPTQ are undone as tensors are read, on any device.

    Raises:
        UnknownKindError: It is GPTQ of a kind that is not known here.
    """
    said = getattr(config, "quantization_config", None)
    if not isinstance(said, dict):
        return
    if said.get("quant_method") == "fp8":
        config.quantization_config = said | {"dequantize": True}
    elif said.get("quant_method") == "gptq":
        register()
        config.quantization_config = said | {"quant_method": METHOD}


@cache
def register() -> None:
    """Make it known to transformers."""
    register_quantization_config(METHOD)(GptqConfig)
    register_quantizer(METHOD)(GptqDequantizer)


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
        """Return the loader's name of what runs before the model's own conversions."""
        return {"dequantize": GptqDequantize}

    def get_weight_conversions(self) -> list[Any]:
        """Return what makes a weight that the model's own conversions do not name."""
        return [
            WeightConverter([rf"\.{part}" for part in PARTS], ".weight", [GptqDequantize(self)])
        ]

    def is_serializable(self) -> bool:
        """Return False: nothing is ever saved."""
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
        """Return the weights, called by the loader; ValueError if the parts do not fit each other."""
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

    def _weights(
        self, tensors: dict[str, Any], start: str, dtype: torch.dtype
    ) -> list[torch.Tensor]:
        lists: dict[str, list[torch.Tensor | None]] = {
            part: _listed(tensors.get(f"{start}.{part}", [])) for part in PARTS
        }
        if not lists["g_idx"]:
            lists["g_idx"] = [None] * len(lists["qweight"])
        if len({len(parts_of_kind) for parts_of_kind in lists.values()}) > 1:
            counts = ", ".join(
                f"{len(parts_of_kind)} {part}" for part, parts_of_kind in lists.items()
            )
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
    """Return what the model has the parameter in, or what stands for it while it is streamed."""
    if model is None or name is None:
        return torch.bfloat16
    module, last = get_module_from_name(model, name)
    dtype: torch.dtype = getattr(module, last).dtype
    return dtype
