"""Level ``load`` by transformers' public API alone, for a version whose inner functions are not known here.

A model is held whole in memory: to stream one, or to try its class on headers, takes inner functions. What
the library refuses then says nothing of the model, for it may be the library that is another one.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from archiver.errors import ArchiverError, SkippedError
from archiver.smoke import hardware, libraries
from archiver.smoke.checkpoint.gptq import PARTS, UnknownKindError, kind_of, packed
from archiver.smoke.hardware import best_device
from archiver.smoke.loading.fit import memory_limit
from archiver.smoke.loading.tensors import TensorSource, torch_dtype
from archiver.smoke.messages import Fits
from archiver.smoke.model import Model, Reads
from archiver.smoke.report import reason, too_large
from archiver.text import human_bytes, plural, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.smoke.model import Dtype
    from archiver.smoke.session import Session


def load_publicly(session: Session, cls: Any, config: Any, dtype: Dtype) -> Model:
    """Return the model, all of its weights in memory.

    Raises:
        SkippedError: It does not fit, or this version does not take the tensors.
        DamageError: The archive, not the model, is damaged.
    """
    device = best_device(session.settings.device)
    _require_room(session, dtype)
    reads = Reads(set())
    config, state = _plain(session, TensorSource(session.checkpoint, reads, session.tell), config)
    with _by_another_version(f"{cls.__name__} could not be loaded"):
        module, info = _loaded(cls, config, state, dtype)
    missing = sorted(info["missing_keys"])
    if missing:
        message = f"{plural(len(missing), 'parameter')} of {cls.__name__} could not be made of the tensors"
        raise _other_version(f"{message}: {printable(missing[0])} …")
    module = module.float() if dtype == "float32" else module
    return Model(module.to(device).eval(), device, dtype, "resident", reads, loader="public")


def _require_room(session: Session, dtype: Dtype) -> None:
    """Tell how the model fits, or that it does not: the tensors and the model made of them, at once."""
    element = 4 if dtype == "float32" else 2
    stored = sum(tensor.size for tensor in session.tensors.values())
    made = sum(_numbers(tensor.shape) for tensor in session.tensors.values()) * element
    needed = hardware.resident_memory() + session.settings.beside + stored + made
    limit = memory_limit(session.settings)
    version = libraries.transformers_version()
    if needed > limit:
        raise SkippedError(
            f"It needs {human_bytes(needed)} at once, and {human_bytes(limit)} may be used; to stream it "
            f"takes another transformers than {version}.",
            hint=libraries.TESTED_HINT,
        )
    lines = (
        f"Weights: {human_bytes(made)} as {dtype}.",
        f"Mode: resident, by the public API: transformers {version} is none of the tested versions.",
        f"Reading: about {human_bytes(stored)}, once.",
    )
    session.tell(Fits(lines))


def _numbers(shape: tuple[int, ...]) -> int:
    count = 1
    for side in shape:
        count *= side
    return count


def _plain(session: Session, source: TensorSource, config: Any) -> tuple[Any, dict[str, Any]]:
    """Return config and tensors as the library's public API can take them: GPTQ is undone before."""
    tensors = dict(session.tensors)
    made: dict[str, Any] = {}
    if session.config.quant_method == "gptq":
        import torch  # noqa: PLC0415 - of the extra

        from archiver.smoke.loading.gptq import dequantized  # noqa: PLC0415 - with the extra only

        try:
            kind = kind_of(session.config.quantization or {})
        except UnknownKindError as error:
            raise SkippedError(f"Quantization 'gptq' cannot be loaded here: {error}.") from None
        for layer in list(packed(tensors)):
            parts = dict(zip(PARTS, layer, strict=True))
            read = {part: source.read(tensor) if tensor else None for part, tensor in parts.items()}
            name = layer.qweight.name.removesuffix(PARTS[0]) + "weight"
            with _by_another_version(f"{printable(name)} cannot be made"):
                made[name] = dequantized(read, kind, torch.bfloat16)
            for part in layer:
                tensors.pop(part.name if part else "", None)
        del config.quantization_config
    elif session.config.quant_method == "fp8":
        config.quantization_config = dict(config.quantization_config) | {"dequantize": True}
    for tensor in tensors.values():
        torch_dtype(tensor)  # SkippedError before anything large is read
    return config, made | {name: source.read(tensor) for name, tensor in tensors.items()}


def _loaded(cls: Any, config: Any, state: dict[str, Any], dtype: Dtype) -> tuple[Any, Any]:
    options: dict[str, Any] = {
        "config": config,
        "state_dict": state,
        "dtype": dtype,
        "attn_implementation": "eager",
        "output_loading_info": True,
    }
    try:
        loaded = cls.from_pretrained(None, experts_implementation="eager", **options)
    except TypeError as error:
        if "experts_implementation" not in str(error):
            raise
        loaded = cls.from_pretrained(None, **options)
    module, info = loaded
    return module, info


@contextmanager
def _by_another_version(doing: str) -> Iterator[None]:
    try:
        yield
    except ArchiverError:
        raise
    except MemoryError as error:
        raise too_large("Level load") from error
    except Exception as error:
        raise _other_version(f"{doing}: {reason(error, type(error).__name__)}") from error


def _other_version(message: str) -> SkippedError:
    version = libraries.transformers_version()
    untested = f"transformers {version} is none of the tested versions, so that says nothing of it."
    return SkippedError(f"{message}. {untested}", hint=libraries.TESTED_HINT)
