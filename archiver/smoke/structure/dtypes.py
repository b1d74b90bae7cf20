"""Every tensor in the dtype that the config, the quantization and its own kind ask for.

A tensor whose bytes were read as another dtype of the same width has a sound header and numbers of
no meaning; nothing but this shows it before the model runs.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

from archiver.archive.findings import Finding
from archiver.smoke.report import Proof, shortened
from archiver.tensors.dtypes import BITS
from archiver.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from archiver.smoke.checkpoint.config import ModelConfig
    from archiver.smoke.checkpoint.files import StoredTensor

    Allowed = Callable[[StoredTensor], bool]


# only numbers that count what is alike: "conv.0" and "conv.1" may be a convolution and its norm
_NUMBER: Final = re.compile(r"(?<![^.])(layers?|h|blocks?|experts)\.[0-9]+(?![^.])")


def role(name: str) -> str:
    """Return ``layers.*.experts.*.up_proj.weight`` for ``layers.7.experts.3.up_proj.weight``."""
    return _NUMBER.sub(r"\1.*", name)


_LISTS = ("modules_to_not_convert", "ignored_layers")


def unquantized_modules(config: ModelConfig) -> Callable[[str], bool]:
    """Return what tells of a tensor's name whether its module, or one around it, was left as it was.

    A listed name may be a whole path or the end of one, with or without ``language_model``
    (transformers' ``should_convert_module``). Looked up part by part: lists have thousands of names.
    """
    listed = {_plain(name) for name in _listed(config)}
    return lambda tensor: any(part in listed for part in _parts(_plain(tensor)))


def _listed(config: ModelConfig) -> Iterator[str]:
    for key in _LISTS:
        names = (config.quantization or {}).get(key)
        if isinstance(names, list):
            yield from (name for name in names if isinstance(name, str))


def _plain(name: str) -> str:
    return name.replace("language_model.", "").removesuffix(".weight").removesuffix(".")


def _parts(name: str) -> Iterator[str]:
    """Yield every run of the name's parts; a name has about ten."""
    words = name.split(".")[:32]
    for begin in range(len(words)):
        for end in range(begin + 1, len(words) + 1):
            yield ".".join(words[begin:end])


# ---- the check


STORED: Final = {"bfloat16": "BF16", "float16": "F16", "float32": "F32", "float64": "F64"}
"""torch's names of dtypes, and those of safetensors."""
QWEN: Final = ("qwen3_5", "qwen3_5_moe", "qwen3_5_text", "qwen3_5_moe_text")
_WIDE: Final = (".A_log", ".linear_attn.norm.weight")
_FLOATS: Final = ("F16", "BF16", "F32", "F64")
_PACKED: Final = (".qweight", ".qzeros", ".g_idx")
_MASK: Final = 4
_HINT: Final = (
    "Compare the file with upstream's: a tensor in the wrong dtype has numbers of no meaning."
)


class _Rule(NamedTuple):
    """What a tensor that is not quantized may be, and how to say it."""

    allowed: Allowed
    due: str


def check_dtypes(tensors: Mapping[str, StoredTensor], config: ModelConfig) -> Proof:
    """Check the dtypes of all tensors, and that those of the same role in other layers have the same.

    Nothing is said of quantizations other than FP8 and GPTQ: there are too many ways of mixing.
    """
    if not config.layout_known:
        method = printable(config.quant_method)
        message = f"Dtypes were not compared: the quantization {method!r} may mix them."
        return Proof((), (Finding("model-not-tried", message),))
    said = _contradicted(tensors, config)
    config = replace(config, dtype=None) if said else config
    rule = _rule(tensors, config)
    wrong = [*_against(tensors.values(), rule, config)]
    known = {finding.tensor for finding in wrong}
    odd = (
        finding for finding in _odd_ones(tensors.values(), config) if finding.tensor not in known
    )
    findings = (*shortened(wrong), *shortened(odd))
    good = bool(tensors) and not findings and not said
    return Proof((_proved(tensors.values()),) if good else (), (*said, *findings))


def _contradicted(tensors: Mapping[str, StoredTensor], config: ModelConfig) -> tuple[Finding, ...]:
    """Return a remark if most floats are none of the config's dtype, nor wider: it is not of these files.

    Models are converted, and their config left as it was. What was published as Qwen3.5 was not.
    """
    stated = STORED.get(config.dtype or "")
    floats = Counter(tensor.dtype for tensor in tensors.values() if tensor.dtype in _FLOATS)
    if config.quantization or config.model_type in QWEN or stated is None or not floats:
        return ()
    usual = floats.most_common(1)[0][0]
    if usual == stated or BITS[usual] > BITS[stated]:
        return ()
    message = f"config.json says {printable(config.dtype or '')}, but most tensors are {usual}"
    return (Finding("model-not-tried", f"Dtypes were not compared with the config: {message}."),)


def _proved(tensors: Iterable[StoredTensor]) -> str:
    counts = Counter(tensor.dtype for tensor in tensors)
    listed = ", ".join(f"{printable(dtype)} {count:,}" for dtype, count in counts.most_common())
    return f"dtypes are those of the config: {listed}"


def _rule(tensors: Mapping[str, StoredTensor], config: ModelConfig) -> _Rule:
    stated = STORED.get(config.dtype or "")
    if config.model_type in QWEN:
        return _qwen(tensors, stated or "BF16")
    if stated is None:
        return _Rule(lambda tensor: tensor.dtype in _FLOATS or _counts(tensor), "a float")
    width = BITS[stated]

    def allowed(tensor: StoredTensor) -> bool:
        wider = tensor.dtype in _FLOATS and BITS[tensor.dtype] > width
        return tensor.dtype == stated or wider or _counts(tensor)

    return _Rule(allowed, f"{stated} or wider")


def _counts(tensor: StoredTensor) -> bool:
    """Return whether it is a buffer of positions or a mask, which is stored as whole numbers or truths.

    GPT-NeoX and others call a mask of shape [1, 1, n, n] a bias.
    """
    whole = tensor.dtype in {"I64", "I32", "BOOL", "U8"}
    mask = (
        tensor.name.endswith(".bias") and len(tensor.shape) == _MASK and tensor.shape[:2] == (1, 1)
    )
    return whole and (mask or not tensor.name.endswith((".weight", ".bias")))


def _qwen(tensors: Mapping[str, StoredTensor], usual: str) -> _Rule:
    """Return the rule as published: ``usual``, and F32 for what the recurrence needs exactly.

    transformers writes all in one dtype when it saves such a model, so that is right as well.
    """
    wide = {tensor.dtype for tensor in tensors.values() if tensor.name.endswith(_WIDE)}
    exact = usual if wide == {usual} else "F32"

    def allowed(tensor: StoredTensor) -> bool:
        return tensor.dtype == (exact if tensor.name.endswith(_WIDE) else usual)

    return _Rule(allowed, f"{usual} ({exact} for A_log and linear_attn.norm)")


def _against(
    tensors: Iterable[StoredTensor], rule: _Rule, config: ModelConfig
) -> Iterator[Finding]:
    for tensor in tensors:
        if not rule.allowed(tensor) and not _quantized(tensor, config):
            due = rule.due if config.dtype else f"{rule.due}, as in such models"
            yield _wrong(tensor, f"should be {due}")


def _quantized(tensor: StoredTensor, config: ModelConfig) -> bool:
    """Return whether the dtype is one that the quantization brings with it."""
    if config.quant_method == "fp8":
        scale = tensor.name.endswith("_scale_inv") and tensor.dtype in {"F32", "BF16", "F8_E8M0"}
        return scale or tensor.dtype == "F8_E4M3" or tensor.name.endswith("_scale")
    if config.quant_method == "gptq":
        whole = tensor.name.endswith(_PACKED) and tensor.dtype == "I32"
        return whole or (tensor.name.endswith(".scales") and tensor.dtype in {"F16", "BF16", "F32"})
    return False


def _wrong(tensor: StoredTensor, reason: str) -> Finding:
    message = f"The tensor is {printable(tensor.dtype)}; it {reason}."
    return Finding("model-tensor-dtype", message, path=tensor.file, tensor=tensor.name, hint=_HINT)


def _odd_ones(tensors: Iterable[StoredTensor], config: ModelConfig) -> Iterator[Finding]:
    """Yield tensors that differ from those of the same role in most other layers."""
    is_unquantized = unquantized_modules(config)
    roles: dict[str, list[StoredTensor]] = {}
    for tensor in tensors:
        roles.setdefault(role(tensor.name), []).append(tensor)
    for alike in roles.values():
        if len({tensor.dtype for tensor in alike}) > 1:
            yield from _outvoted([tensor for tensor in alike if not is_unquantized(tensor.name)])


def _outvoted(alike: list[StoredTensor]) -> Iterator[Finding]:
    counts = Counter(tensor.dtype for tensor in alike)
    if len(counts) > 1:
        usual = counts.most_common(1)[0][0]
        for odd in alike:
            if odd.dtype != usual:
                yield _wrong(odd, f"is {printable(usual)} in other layers")
