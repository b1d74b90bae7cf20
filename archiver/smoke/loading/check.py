"""Level ``load``: a model is built from the checkpoint, with all weights or with their sources."""

from __future__ import annotations

import contextlib
import copy
import gc
import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from archiver import memory
from archiver.archive.findings import Finding
from archiver.errors import ArchiverError, SkippedError
from archiver.smoke import libraries
from archiver.smoke.hardware import best_device
from archiver.smoke.loading.architecture import model_class, noting, unconverted
from archiver.smoke.loading.fit import Fit, fit, parameter_count
from archiver.smoke.loading.tensors import TensorSource
from archiver.smoke.messages import Fits
from archiver.smoke.model import Model, Reads
from archiver.smoke.report import FailedError, Proof, library_errors
from archiver.text import human_bytes, plural, printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import torch

    from archiver.smoke.loading.conversion import Weights
    from archiver.smoke.loading.layers import Layer
    from archiver.smoke.loading.tensors import LazyTensor
    from archiver.smoke.model import Dtype
    from archiver.smoke.session import Session


# ---- a model without weights


_EAGER: Final = "eager"
"""Plain PyTorch for attention and experts: the same on every machine, and one expert at a time."""


def prepared(config: Any) -> Any:
    """Return a copy of the config that asks for eager attention and experts, and for plain numbers."""
    from archiver.smoke.loading.quantizers import dequantizing  # noqa: PLC0415 - with the extra only

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
        for manager in context:
            stack.enter_context(manager)
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
        from archiver.smoke.loading.architecture import library_sentence  # noqa: PLC0415 - with the extra only

        raise SkippedError(
            f"Its quantization cannot be loaded here: {library_sentence(error)}"
        ) from error
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


# ---- the level


_HINT: Final = "Compare the files with upstream's."
_SHOWN: Final = 20
"""Missing parameters that are named; the rest is counted."""


@dataclass
class _Plan:
    """What is known of a model before its weights are read."""

    cls: Any
    config: Any
    skeleton: Any
    quantizer: Any
    source: TensorSource
    tensors: Mapping[str, LazyTensor]
    reads: Reads
    weights: Weights
    layers: Sequence[Layer]
    dtype: Dtype
    device: str


def check_load(session: Session) -> Proof:
    """Build the model in the dtype that was asked for.

    Raises:
        SkippedError: The libraries, or memory, do not suffice.
        FailedError: The libraries refuse it (``model-load``), or weights are missing
            (``model-tensor-missing``).
        DamageError: The archive, not the model, is damaged.
    """
    session.model, count = _build(session, session.settings.dtype)
    return Proof((_sentence(session.model, count),), facts=_facts(session.model, count))


def _sentence(model: Model, count: int) -> str:
    tensors = plural(len(model.reads.tensors), "tensor")
    size = human_bytes(model.reads.size)
    name = type(model.module).__name__
    if model.mode == "resident":
        message = f"{name}: {count:,} parameters loaded from {tensors} ({size}), all in memory"
        by = f", by the public API of transformers {libraries.transformers_version()}"
        return message + by * (model.loader == "public")
    return (
        f"{name}: built, each parameter has its source; {tensors} ({size}) read, "
        "the rest when its layer runs"
    )


def _facts(model: Model, count: int) -> dict[str, Any]:
    return {
        "class": type(model.module).__name__,
        "mode": model.mode,
        "loader": model.loader,
        "device": model.device,
        "dtype": model.dtype,
        "parameters": count,
        "tensors_read": len(model.reads.tensors),
        "bytes_read": model.reads.size,
    }


def build_model(session: Session, dtype: Dtype) -> Model:
    """Build the model, resident if it fits and else streamed; tells how it fits.

    Whatever model was built before must be let go of first. Errors as for `check_load`.
    """
    return _build(session, dtype)[0]


def _build(session: Session, dtype: Dtype) -> tuple[Model, int]:
    """Return the model, and how many parameters it has."""
    libraries.require("torch", "transformers", "accelerate")
    if not libraries.inner_functions_known():
        return _build_publicly(session, dtype)
    gc.collect()  # modules and their hooks refer to each other
    session.checkpoint.settle(session.settings.workers)
    memory.trim()
    plan = _plan(session, dtype)
    how = fit(session, plan.layers, plan.weights, plan.device, dtype)
    session.checkpoint.settle(how.workers)
    memory.trim()  # what the samples took
    session.tell(Fits(how.lines))
    with library_errors("model-load", f"Loading {plan.cls.__name__}"):
        module = _resident(plan) if how.mode == "resident" else _streamed(plan, how)
    if how.mode == "resident":
        session.checkpoint.settle(how.workers)  # passes need the memory of its buffers
        memory.trim()
    _set_generation(module, session)
    model = Model(module, plan.device, dtype, how.mode, plan.reads)
    return model, parameter_count(plan.layers, plan.weights)


def _build_publicly(session: Session, dtype: Dtype) -> tuple[Model, int]:
    from archiver.smoke.loading.public import load_publicly  # noqa: PLC0415 - with the extra only

    gc.collect()
    session.checkpoint.settle(session.settings.workers)
    model = load_publicly(session, *model_class(session), dtype)
    _set_generation(model.module, session)
    return model, sum(parameter.numel() for parameter in model.module.parameters())


def _plan(session: Session, dtype: Dtype) -> _Plan:
    import torch  # noqa: PLC0415 - of the extra

    from archiver.smoke.loading.conversion import Weights  # noqa: PLC0415 - with the extra only
    from archiver.smoke.loading.layers import layers_of  # noqa: PLC0415 - with the extra only

    cls, config = model_class(session)
    reads = Reads(set())
    source = TensorSource(session.checkpoint, reads, session.tell)
    number = getattr(torch, dtype)
    with library_errors("model-load", f"Building {cls.__name__} from config.json"):
        skeleton, quantizer = build_skeleton(cls, config, number)
        tensors = source.tensors(session.tensors)
        weights = Weights(skeleton, tensors, number, quantizer)
    _require_sources(cls, weights)
    layers = layers_of(skeleton, weights)
    device = best_device(session.settings.device)
    return _Plan(
        cls, config, skeleton, quantizer, source, tensors, reads, weights, layers, dtype, device
    )


def _require_sources(cls: Any, weights: Weights) -> None:
    """For what is missing transformers would make up numbers, and the model would run."""
    missing = weights.missing
    if missing:
        raise FailedError(*(_missing(cls, name) for name in missing[:_SHOWN]), *_more(missing))


def _missing(cls: Any, name: str) -> Finding:
    message = f"Nothing in the checkpoint makes parameter {printable(name)} of {cls.__name__}."
    return Finding("model-tensor-missing", message, hint="Compare the checkpoint with upstream's.")


def _more(missing: Sequence[str]) -> Iterator[Finding]:
    if len(missing) > _SHOWN:
        message = f"{plural(len(missing) - _SHOWN, 'more parameter')} have no source."
        yield Finding("model-tensor-missing", message)


def _resident(plan: _Plan) -> Any:

    plan.skeleton = None
    noted: list[Any] = []
    with (
        _one_by_one(converts=any(recipe.converter for recipe in plan.weights.recipes.values())),
        _naming_parameters(noted),
    ):
        module = noting(plan.cls, noted).from_pretrained(
            None,
            config=prepared(plan.config),
            state_dict=plan.tensors,
            dtype=plan.dtype,
            attn_implementation="eager",
            experts_implementation="eager",
        )
    if plan.dtype == "float32":
        module = module.float()  # what FP8 repositories keep unquantized would stay in BF16
    return module.to(plan.device)


@contextmanager
def _naming_parameters(noted: list[Any]) -> Iterator[None]:
    """Where the loader could not make some parameters, each is named."""
    try:
        yield
    except ArchiverError:
        raise
    except Exception as error:
        if findings := list(unconverted(noted, "model-load", _HINT)):
            raise FailedError(*findings[:_SHOWN]) from error
        raise


@contextmanager
def _one_by_one(*, converts: bool) -> Iterator[None]:
    """Where tensors are converted, the loader's threads would read far ahead of the conversion."""
    name = "HF_DEACTIVATE_ASYNC_LOAD"
    before = os.environ.get(name)
    if converts:
        os.environ[name] = "1"
    try:
        yield
    finally:
        os.environ.pop(name, None)
        if before is not None:
            os.environ[name] = before


def _streamed(plan: _Plan, how: Fit) -> Any:
    from archiver.smoke.loading.fit import Budget  # noqa: PLC0415 - with the extra only
    from archiver.smoke.loading.streaming import stream  # noqa: PLC0415 - with the extra only

    _require_streamable(plan.quantizer, plan.weights)
    memory.return_freed_blocks()
    budget = Budget(how.limit, how.headroom, plan.device, how.ahead, how.workers)
    stream(plan.skeleton, plan.layers, plan.weights, budget)
    if plan.quantizer is not None:
        plan.quantizer.postprocess_model(plan.skeleton)
    return plan.skeleton


def _require_streamable(quantizer: Any, weights: Weights) -> None:
    if weights.unmade:
        name = printable(weights.unmade[0])
        raise SkippedError(f"It cannot be streamed: the model itself computes {name}.")
    if quantizer is None or getattr(quantizer.quantization_config, "dequantize", False):
        return
    method = printable(str(quantizer.quantization_config.quant_method))
    raise SkippedError(f"Quantization {method!r} can only be loaded with all weights in memory.")


def _set_generation(module: Any, session: Session) -> None:
    """The repository's own ``generation_config.json``, as ``from_pretrained`` takes it."""
    from transformers import GenerationConfig  # noqa: PLC0415 - of the extra

    if module.can_generate() and (session.folder / "generation_config.json").is_file():
        with library_errors("model-load", "Reading generation_config.json"):
            module.generation_config = GenerationConfig.from_pretrained(session.folder)
