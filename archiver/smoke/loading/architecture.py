"""Which class of transformers a checkpoint is for, and transformers' own reading of its config."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final

from archiver.archive.findings import Finding
from archiver.errors import SkippedError
from archiver.smoke import libraries
from archiver.smoke.checkpoint.config import CONFIG
from archiver.smoke.checkpoint.gptq import UnknownKindError, require_known
from archiver.smoke.report import FailedError, reason
from archiver.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from archiver.archive.findings import Code
    from archiver.smoke.checkpoint.config import ModelConfig
    from archiver.smoke.session import Session


# ---- what transformers' loader found


def noting(cls: Any, noted: list[Any]) -> Any:
    """Return the class with a loader that tells ``noted`` what it found before it raises on its account."""
    finish = cls._finalize_model_loading

    def finalize(model: Any, load_config: Any, info: Any) -> Any:
        noted.append(info)
        return finish(model, load_config, info)

    return type(
        cls.__name__,
        (cls,),
        {"_finalize_model_loading": staticmethod(finalize), "__module__": cls.__module__},
    )


def unconverted(noted: list[Any], code: Code, hint: str = "") -> Iterator[Finding]:
    """Yield parameters that could not be made of the tensors that are there, and why not."""
    for name, error in sorted(pair for info in noted for pair in info.conversion_errors.items()):
        message = f"The tensor cannot be made of those that are there: {printable(_reason(error))}"
        yield Finding(code, message, tensor=name, hint=hint)


def _reason(error: object) -> str:
    """Return the exception itself: it stands between its traceback and a line of which operation it was."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reasons = [line for line in lines if not line.startswith("Error")] or lines
    return reasons[-1] if reasons else "no reason is given"


# ---- the class


_NEWER: Final = "A newer transformers may know it."
_NEVER: Final = ("transformers_weights", "fusion_config", "distributed_config")
"""Keys by which a config would have the loader take other files, or exchange parts of the model."""
_OPTIONAL: Final = "add_pooling_layer"


def model_class(session: Session) -> tuple[Any, Any]:
    """Return the class, a subclass of ``PreTrainedModel``, and the config to build it from.

    Raises:
        SkippedError: The extra is not installed, the repository asks for its own code, this version
            of transformers has no such class, or its quantization needs a library that is not there.
        FailedError: transformers refuses the config (``model-config``).
    """
    libraries.require("torch", "transformers", "accelerate")
    config = transformers_config(session)
    cls = _named_class(session.config) if session.config.architecture else _base_class(config)
    config = _fitting(cls, config)
    _check_quantization(config, session)
    return _without_pooler(cls, session.tensors), config


def library_sentence(error: BaseException) -> str:
    """Return what a library's exception says, as a sentence that is safe to show."""
    return f"{reason(error, type(error).__name__)}."


def _refused(message: str) -> FailedError:
    hint = "Compare config.json with upstream's, or try another version of transformers."
    return FailedError(Finding("model-config", message, path=CONFIG, hint=hint))


def transformers_config(session: Session) -> Any:
    """Return what transformers reads in ``config.json``; errors as for `model_class`."""
    from transformers import CONFIG_MAPPING, AutoConfig  # noqa: PLC0415 - of the extra

    family = session.config.model_type
    # without a model_type, transformers would guess one from the name of the folder
    if family not in CONFIG_MAPPING:
        raise SkippedError(f"{_version()} knows no model_type {printable(family)!r}.", hint=_NEWER)
    folder = session.folder
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        for key in _NEVER:
            if hasattr(config, key):
                delattr(config, key)
    except Exception as error:  # noqa: BLE001 - a hostile config makes any
        raise _refused(f"{_version()} refuses config.json: {library_sentence(error)}") from None
    return config


def _without_pooler(cls: Any, tensors: Iterable[str]) -> Any:
    """Return the class built without its pooler, if it can do without and no tensor is of one.

    Repositories of sentence embeddings have none: these are made of the last hidden states alone.
    transformers would make up numbers for it.
    """
    optional = _OPTIONAL in inspect.signature(cls.__init__).parameters
    if not optional or any("pooler" in name.split(".") for name in tensors):
        return cls

    def build(model: Any, config: Any, **options: Any) -> None:
        cls.__init__(model, config, **{_OPTIONAL: False} | options)

    return type(
        cls.__name__,
        (cls,),
        {"__init__": build, "__module__": cls.__module__, "lacks_pooler": True},
    )


def _version() -> str:
    import transformers  # noqa: PLC0415 - of the extra

    return f"transformers {transformers.__version__}"


def _named_class(config: ModelConfig) -> Any:
    import transformers  # noqa: PLC0415 - of the extra

    name = config.architecture
    try:
        cls: Any = getattr(transformers, name, None)
    except Exception as error:  # noqa: BLE001 - its module needs a library that is not there
        raise SkippedError(
            f"{_version()} cannot import {printable(name)}: {library_sentence(error)}"
        ) from None
    if not _is_model(cls, transformers.PreTrainedModel):
        raise SkippedError(f"{_version()} knows no class {printable(name)}.", hint=_NEWER)
    return cls


def _is_model(cls: Any, base: Any) -> bool:
    return isinstance(cls, type) and issubclass(cls, base) and base.config_class != _config_of(cls)


def _config_of(cls: Any) -> Any:
    return cls.config_class


def _base_class(config: Any) -> Any:
    from transformers import MODEL_MAPPING  # noqa: PLC0415 - of the extra

    try:
        cls = MODEL_MAPPING[type(config)]
    except Exception:  # noqa: BLE001 - a library that is not there as well as an unknown key
        message = f"{_version()} has no model class for {type(config).__name__}."
        raise SkippedError(message, hint=_NEWER) from None
    return cls[0] if isinstance(cls, tuple | list) else cls


def _fitting(cls: Any, config: Any) -> Any:
    """Return the config, or the part of it that the class is built from."""
    for part in (config, config.get_text_config()):
        if isinstance(part, cls.config_class):
            return part
    family = printable(str(config.model_type))
    raise _refused(f"{cls.__name__} is no class for a model of the model_type {family!r}.")


_WITHOUT: Final = (
    "Only levels structure and tokenizer can be shown here: --level tokenizer runs these."
)


def _check_quantization(config: Any, session: Session) -> None:
    """That transformers could load such weights here; on a plain CPU it turns FP8 into BF16."""
    if (
        getattr(config, "quantization_config", None) is None
        or not libraries.inner_functions_known()
    ):
        return
    from transformers.quantizers.auto import get_hf_quantizer  # noqa: PLC0415 - of the extra

    from archiver.smoke.loading.quantizers import dequantizing  # noqa: PLC0415 - with the extra only

    method = printable(session.config.quant_method)
    try:
        copied = _copy(config)
        dequantizing(copied)
        require_known(session.tensors, session.config)
        get_hf_quantizer(copied, None, None, weights_only=True, user_agent={})
    except (ImportError, UnknownKindError) as error:
        message = f"Quantization {method!r} cannot be loaded here: {library_sentence(error)}"
        raise SkippedError(message, hint=_WITHOUT) from None
    except Exception as error:  # noqa: BLE001 - a hostile config makes any
        raise _refused(
            f"{_version()} refuses quantization {method!r}: {library_sentence(error)}"
        ) from None


def _copy(config: Any) -> Any:
    import copy  # noqa: PLC0415 - beside its one use

    return copy.deepcopy(config)
