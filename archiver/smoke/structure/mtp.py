"""The layers for multi-token prediction (``mtp.*``), which transformers' classes leave out.

An MTP layer is a full-attention layer of the text model of its own (DeepSeek-V3 report, section
2.2; vLLM's ``qwen3_next_mtp.py`` for the names), so one of those says what must be there.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Final

from archiver.archive.findings import Finding
from archiver.smoke.checkpoint.gptq import unpacked
from archiver.smoke.report import Proof
from archiver.smoke.structure.listing import shortened
from archiver.text import plural, printable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from archiver.smoke.checkpoint.protocol import StoredTensor
    from archiver.smoke.config import ModelConfig

    Shapes = dict[str, tuple[int, ...]]

_LAYER: Final = re.compile(
    r"((?:model\.)?(?:language_model\.)?(?:model\.)?layers\.[0-9]{1,9})\.(.+)"
)
_MTP_LAYER: Final = re.compile(r"mtp\.layers\.([0-9]{1,9})\.(.+)")
_FUSED: Final = re.compile(r"(.*\.experts)\.(gate_up_proj|down_proj)")
_EXPERTS: Final = re.compile(r".*\.experts\.")
_MATRIX: Final = 2
_RANK: Final = 3
_MOST_EXPERTS: Final = 8192
"""A shape costs nothing to write; what is expanded is bounded."""
_HINT: Final = (
    "Compare with upstream's files. The model runs without MTP layers, but slower than it could."
)


def check_mtp(
    tensors: Mapping[str, StoredTensor], config: ModelConfig, blamed: Collection[str] = ()
) -> Proof:
    """That the MTP layers which the config counts are there, each complete.

    ``blamed`` names tensors of the model proper that are known to be wrong: nothing is held to them.
    """
    if "mtp_num_hidden_layers" not in config.text:
        return Proof(())
    tensors = unpacked(tensors, config)
    wanted = _full_attention(tensors, blamed)
    proof, surplus = _counted(tensors, config, wanted), tuple(_surplus(tensors, config))
    return Proof(proof.proved, (*proof.findings, *surplus))


def _surplus(tensors: Mapping[str, StoredTensor], config: ModelConfig) -> Iterator[Finding]:
    """A remark on layers beyond those that the config counts: nothing looks at them."""
    numbers = {int(found[1]) for name in tensors if (found := _MTP_LAYER.fullmatch(name))}
    more = sorted(one for one in numbers if one >= config.mtp_layers)
    if more:
        counted = plural(config.mtp_layers, "MTP layer")
        message = f"The config counts {counted}; there are tensors of {len(more):,} more."
        yield Finding("model-tensor-unused", message, tensor=f"mtp.layers.{more[0]}.*")


def _counted(tensors: Mapping[str, StoredTensor], config: ModelConfig, wanted: Shapes) -> Proof:
    count = config.mtp_layers
    if not count:
        return Proof(())
    if not any(name.startswith("mtp.") for name in tensors):
        message = f"The config counts {plural(count, 'MTP layer')}; no tensor mtp.* is there."
        return Proof((), (Finding("model-mtp", message, tensor="mtp.*", hint=_HINT),))
    if not config.layout_known:
        method = printable(config.quant_method)
        message = f"The MTP layers were not compared: the quantization {method!r} may pack them."
        return Proof((), (Finding("model-not-tried", message),))
    findings = (*_around(tensors, config), *shortened(_layers(tensors, config, wanted)))
    if findings:
        return Proof((), findings)
    are = "is" if count == 1 else "are"
    return Proof((f"{plural(count, 'MTP layer')} {are} complete",))


def _finding(name: str, message: str, path: str = "") -> Finding:
    return Finding("model-mtp", message, path=path, tensor=name, hint=_HINT)


def _around(tensors: Mapping[str, StoredTensor], config: ModelConfig) -> Iterator[Finding]:
    """What stands before and after the layers."""
    wide = config.text.get("hidden_size")
    wanted = {"fc": _MATRIX, "norm": 1, "pre_fc_norm_embedding": 1, "pre_fc_norm_hidden": 1}
    for part, rank in wanted.items():
        name = f"mtp.{part}.weight"
        one = tensors.get(name)
        if one is None:
            yield _finding(name, "The tensor of the MTP layers is not there.")
        elif isinstance(wide, int) and one.shape != (shape := (wide, 2 * wide)[:rank]):
            yield _misfit(name, one.shape, shape, one.file)


def _layers(
    tensors: Mapping[str, StoredTensor], config: ModelConfig, wanted: Shapes
) -> Iterator[Finding]:
    """Each MTP layer against a full-attention layer of the text model."""
    there: dict[int, dict[str, StoredTensor]] = {}
    for name, one in tensors.items():
        if found := _MTP_LAYER.fullmatch(name):
            there.setdefault(int(found[1]), {})[found[2]] = one
    for number in range(min(config.mtp_layers, len(there) + 1)):
        at = f"mtp.layers.{number}"
        if number not in there:
            yield _finding(f"{at}.*", "No tensor of the MTP layer is there.")
            continue
        yield from _compared(at, _shapes(there[number]), wanted, there[number])


def _compared(
    at: str, found: Shapes, wanted: Shapes, stored: dict[str, StoredTensor]
) -> Iterator[Finding]:
    for suffix, shape in wanted.items():
        name = f"{at}.{suffix}"
        if suffix not in found:
            yield _finding(name, "The tensor of the MTP layer is not there.")
        elif found[suffix] != shape:
            path = stored[suffix].file if suffix in stored else ""
            yield _misfit(name, found[suffix], shape, path)


def _misfit(name: str, shape: tuple[int, ...], wanted: tuple[int, ...], path: str) -> Finding:
    told = f"The tensor has the shape {list(shape)}; the rest of the model needs {list(wanted)}."
    return _finding(name, told, path)


def _full_attention(tensors: Mapping[str, StoredTensor], blamed: Collection[str]) -> Shapes:
    """What most full-attention layers of the text model have; empty if there is none."""
    layers: dict[str, dict[str, StoredTensor]] = {}
    for name, one in tensors.items():
        if found := _LAYER.fullmatch(name):
            layers.setdefault(found[1], {})[found[2]] = one
    full = [at for at in sorted(layers) if any(one.startswith("self_attn.") for one in layers[at])]
    said: dict[str, Counter[tuple[int, ...]]] = {}
    for at in full:
        for suffix, shape in _shapes(_sound(at, layers[at], blamed)).items():
            said.setdefault(suffix, Counter())[shape] += 1
    return {
        suffix: shapes.most_common(1)[0][0]
        for suffix, shapes in said.items()
        if 2 * shapes.total() > len(full)
    }


def _sound(
    at: str, layer: dict[str, StoredTensor], blamed: Collection[str]
) -> dict[str, StoredTensor]:
    """Without what is known to be wrong; of experts, which are joined, without any."""
    wrong = {name.removeprefix(f"{at}.") for name in blamed if name.startswith(f"{at}.")}
    experts = tuple(found[0] for name in wrong if (found := _EXPERTS.match(name)))
    return {
        suffix: one
        for suffix, one in layer.items()
        if suffix not in wrong and not suffix.startswith(experts)
    }


def _shapes(layer: dict[str, StoredTensor]) -> Shapes:
    """Shapes as they are in a plain layer with one tensor for each expert's matrix."""
    shapes: Shapes = {}
    for suffix, one in layer.items():
        if found := _FUSED.fullmatch(suffix):
            shapes |= _unfused(found[1], found[2], one.shape)
        elif not suffix.endswith("_scale_inv"):
            shapes[suffix] = one.shape
    return shapes


def _unfused(at: str, kind: str, shape: tuple[int, ...]) -> Shapes:
    """``gate_up_proj`` is [experts, 2 x inner, hidden], ``down_proj`` [experts, hidden, inner]."""
    if len(shape) != _RANK or shape[0] > _MOST_EXPERTS:
        return {f"{at}.{kind}": shape}
    count, rows, columns = shape
    if kind == "down_proj":
        return {f"{at}.{one}.down_proj.weight": (rows, columns) for one in range(count)}
    parts = ("gate_proj", "up_proj")
    return {
        f"{at}.{one}.{part}.weight": (rows // 2, columns) for one in range(count) for part in parts
    }
