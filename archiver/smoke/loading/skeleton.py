"""A model without weights: transformers' own modules, their parameters on the meta device."""

from __future__ import annotations

import contextlib
import copy
from typing import TYPE_CHECKING, Any, Final

from archiver.errors import SkippedError
from archiver.smoke.loading.quantizers import dequantizing

if TYPE_CHECKING:
    import torch

_EAGER: Final = "eager"
"""Plain PyTorch for attention and experts: the same on every machine, and one expert at a time."""


def prepared(config: Any) -> Any:
    """A copy of the config that asks for eager attention and experts, and for plain numbers."""
    config = copy.deepcopy(config)
    config._attn_implementation = _EAGER  # noqa: SLF001 - as from_pretrained sets it
    config._experts_implementation = _EAGER  # noqa: SLF001 - as from_pretrained sets it
    dequantizing(config)
    return config


def build_skeleton(cls: Any, config: Any, dtype: torch.dtype) -> tuple[Any, Any]:
    """Build a model as ``from_pretrained`` does up to where it loads weights.

    Returns:
        The model, its buffers computed, its parameters on the meta device; and its quantizer or None.

    Raises:
        SkippedError: Its quantization needs a library, or a device, that is not there.
    """
    from transformers.modeling_utils import _get_dtype  # noqa: PLC0415 - as above
    from transformers.monkey_patching import patch_output_recorders  # noqa: PLC0415 - of the extra

    quantizer, config = _quantizer(prepared(config))
    # the parts of a config have dtypes of their own
    config, dtype = _get_dtype(
        dtype, None, config, None, None, weights_only=True, hf_quantizer=quantizer
    )
    context = cls.get_init_context(dtype, quantizer is not None, False, False)
    with contextlib.ExitStack() as stack:
        for one in context:
            stack.enter_context(one)
        model = cls(config)
        patch_output_recorders(model)
        if quantizer is not None:
            quantizer.preprocess_model(
                model=model, dtype=dtype, device_map=None, checkpoint_files=None, use_kernels=False
            )
    _compute_buffers(model, quantizer)
    return model.eval(), quantizer


def _quantizer(config: Any) -> tuple[Any, Any]:
    from transformers.quantizers.auto import get_hf_quantizer  # noqa: PLC0415 - of the extra

    try:
        quantizer, config, _ = get_hf_quantizer(
            config, None, None, weights_only=True, user_agent={}
        )
    except (ImportError, RuntimeError) as error:
        from archiver.smoke.loading.architecture import told  # noqa: PLC0415 - with the extra only

        raise SkippedError(f"Its quantization cannot be loaded here: {told(error)}") from error
    return quantizer, config


def _compute_buffers(model: Any, quantizer: Any) -> None:
    """What no checkpoint holds, such as rotary frequencies, by the loader's own means.

    Parameters are marked as initialized, so none is made: they stay on the meta device.
    """
    for parameter in model.parameters():
        parameter._is_hf_initialized = True  # noqa: SLF001 - how the loader marks them
    stored = {name for name, _ in model.named_buffers()} & model.state_dict().keys()
    model._move_missing_keys_from_meta_to_device(stored, None, None, quantizer)  # noqa: SLF001 - as above
    model._initialize_missing_keys(quantizer is not None)  # noqa: SLF001 - as above
