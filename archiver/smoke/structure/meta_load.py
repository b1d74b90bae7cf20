"""The model's own class takes every tensor: transformers' loader, run on the meta device.

Tensors without data, made from the headers, go through the loader's own renaming and conversion, so
what it misses or does not fit is what a true load would meet. No weight is read.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Final

from archiver.archive.findings import Finding
from archiver.errors import SkippedError
from archiver.smoke import libraries
from archiver.smoke.checkpoint.gptq import unpacked
from archiver.smoke.loading.architecture import library_sentence, model_class, noting, unconverted
from archiver.smoke.loading.tensors import DTYPES
from archiver.smoke.report import FailedError, Proof, shortened
from archiver.smoke.structure.quantization import SCALE
from archiver.text import plural, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from archiver.smoke.checkpoint.files import StoredTensor
    from archiver.smoke.session import Session


_HINT: Final = "Compare with upstream's files; a shard or config.json may be of another model."
_NAMED: Final = 5


def check_meta_load(session: Session, tensors: Mapping[str, StoredTensor]) -> Proof:
    """Return what the class misses and what does not fit; what it has no use for is a remark.

    A class that is not there, or cannot be used here, is a remark as well: all else was looked at.
    """
    try:
        cls, config = model_class(session)
    except SkippedError as error:
        message = f"The model's class was not tried on the tensors. {error.message}"
        return Proof((), (Finding("model-not-tried", message, hint=error.hint),))
    except FailedError as error:
        return Proof((), error.findings)
    if not libraries.inner_functions_known():
        version = libraries.transformers_version()
        message = (
            "The model's class was not tried on the tensors: that takes inner functions of transformers, "
            f"and {version} is none of the tested versions."
        )
        return Proof((), (Finding("model-not-tried", message, hint=libraries.TESTED_HINT),))
    if session.config.quant_method == "fp8":
        return _tried(cls, _plain_config(config), session, _without_scales(tensors))
    if session.config.quant_method == "gptq":
        return _tried(cls, _plain_config(config), session, unpacked(tensors, session.config))
    return _tried(cls, config, session, tensors)


def _plain_config(config: Any) -> Any:
    """Return the config of the same model in plain numbers.

    FP8 and GPTQ become that before anything else; their scales have been looked at, and a conversion
    for each of 94,000 of them takes a minute.
    """
    plain = copy.deepcopy(config)
    del plain.quantization_config
    return plain


def _without_scales(tensors: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    """Return FP8 tensors as they are once the scales were applied."""
    return {
        name: tensor._replace(dtype="BF16") if tensor.dtype == "F8_E4M3" else tensor
        for name, tensor in tensors.items()
        if not name.endswith(SCALE)
    }


def _tried(cls: Any, config: Any, session: Session, tensors: Mapping[str, StoredTensor]) -> Proof:
    noted: list[Any] = []
    reason = ""
    try:
        _load(cls, config, session.config.dtype, tensors, noted)
    except Exception as error:  # noqa: BLE001 - what a hostile model makes the loader raise has no base
        reason = library_sentence(error)
    info = noted[0] if noted else None
    findings = (*_findings_of(info, tensors), *_left_out(cls)) if info else ()
    if reason and all(finding.remark for finding in findings):
        message = f"{cls.__name__} does not take the tensors: {reason}"
        findings = (*findings, Finding("model-load", message, hint=_HINT))
    good = all(finding.remark for finding in findings)
    sentence = f"{cls.__name__} takes every tensor: none missing, none of a wrong shape"
    return Proof((sentence,) if good else (), findings)


def _load(
    cls: Any,
    config: Any,
    dtype: str | None,
    tensors: Mapping[str, StoredTensor],
    noted: list[Any],
) -> None:
    """Run the loader; ``noted`` gets what it found, also where it ends with an error after that."""
    import torch  # noqa: PLC0415 - of the extra

    noting(cls, noted).from_pretrained(
        None,
        config=config,
        state_dict=_meta_tensors(tensors),
        device_map={"": "meta"},
        dtype=getattr(torch, DTYPES.get(dtype or "", dtype or ""), torch.float32),
        attn_implementation="eager",
        output_loading_info=True,
        ignore_mismatched_sizes=True,
    )


def _meta_tensors(tensors: Mapping[str, StoredTensor]) -> dict[str, Any]:
    import torch  # noqa: PLC0415 - of the extra

    return {
        name: torch.empty(
            tensor.shape, dtype=getattr(torch, DTYPES.get(tensor.dtype, "uint8")), device="meta"
        )
        for name, tensor in tensors.items()
    }


def _findings_of(info: Any, tensors: Mapping[str, StoredTensor]) -> Iterator[Finding]:
    yield from shortened(_missing(sorted(info.missing_keys - set(info.conversion_errors))))
    yield from shortened(_misfits(sorted(info.mismatched_keys), tensors))
    yield from shortened(unconverted([info], "model-tensor-shape", _HINT))
    yield from _unused(sorted(name for name in info.unexpected_keys if not name.startswith("mtp.")))


def _left_out(cls: Any) -> Iterator[Finding]:
    if getattr(cls, "lacks_pooler", False):
        message = "There are no tensors of a pooler; the model is built without one."
        yield Finding("model-not-tried", message)


def _missing(names: Iterable[str]) -> Iterator[Finding]:
    for name in names:
        message = "The model's class needs this tensor; it is not there."
        yield Finding("model-tensor-missing", message, tensor=name, hint=_HINT)


def _misfits(
    mismatched: Iterable[tuple[str, Any, Any]], tensors: Mapping[str, StoredTensor]
) -> Iterator[Finding]:
    for name, there, due in mismatched:
        message = f"The tensor has the shape {list(there)}; the model's class needs {list(due)}."
        path = tensors[name].file if name in tensors else ""
        yield Finding("model-tensor-shape", message, path=path, tensor=name, hint=_HINT)


def _unused(names: list[str]) -> Iterator[Finding]:
    if not names:
        return
    listed = ", ".join(map(printable, names[:_NAMED]))
    more = ", …" if len(names) > _NAMED else ""
    told_of = plural(len(names), "tensor")
    yield Finding(
        "model-tensor-unused", f"The model's class has no use for {told_of}: {listed}{more}"
    )
