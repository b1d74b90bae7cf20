"""Quantized weights are computed with as plain numbers, so that results can be compared anywhere."""

from __future__ import annotations

from typing import Any


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
        from archiver.smoke.loading import gptq  # noqa: PLC0415 - with the extra only

        gptq.register()
        config.quantization_config = said | {"quant_method": gptq.METHOD}
