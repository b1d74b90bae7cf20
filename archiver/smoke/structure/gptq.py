"""GPTQ weights: the parts of each fit each other (the layout is told in ``checkpoint/gptq.py``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from archiver.archive.findings import Finding
from archiver.smoke.checkpoint.gptq import PARTS, SUFFIXES, packed, usual_bits, words
from archiver.smoke.report import Proof
from archiver.smoke.structure.listing import shortened
from archiver.text import plural

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from archiver.smoke.checkpoint.gptq import Packed
    from archiver.smoke.checkpoint.protocol import StoredTensor
    from archiver.smoke.config import ModelConfig

_HINT: Final = "Compare the file with upstream's: the codes alone have no meaning."


def check_gptq(tensors: Mapping[str, StoredTensor], config: ModelConfig) -> Proof:
    """That each packed weight has its scales and zero points, of the grid of its groups."""
    if config.quant_method != "gptq":
        return Proof(())
    layers = list(packed(tensors))
    bits, group = usual_bits(config), _group_size(config)
    wrong = (finding for layer in layers for finding in _wrong(layer, bits, group))
    findings = (*shortened(wrong), *shortened(_strays(tensors)))
    told = f"{plural(len(layers), 'GPTQ weight')}: each has its scales and zero points"
    return Proof((told,) if not findings else (), findings)


def _group_size(config: ModelConfig) -> int | None:
    """Inputs that share a scale; None where the config makes no sense, or layers have their own."""
    said = config.quantization or {}
    rules: Any = said.get("dynamic")
    if isinstance(rules, dict) and any(isinstance(one, dict) and one for one in rules.values()):
        return None
    size = said.get("group_size")
    return size if isinstance(size, int) and size > 0 else None


def _finding(one: StoredTensor, message: str) -> Finding:
    return Finding("model-scale", message, path=one.file, tensor=one.name, hint=_HINT)


def _wrong(layer: Packed, usual: int, group: int | None) -> Iterator[Finding]:
    for part, one in zip(PARTS[1:3], (layer.qzeros, layer.scales), strict=True):
        if one is None:
            yield _finding(layer.qweight, f"The GPTQ weight has no {part}.")
    bits = layer.bits(usual)
    if bits is None:
        message = (
            f"The codes are {_told(layer.qweight)}: no number of bits fits {layer.inputs} inputs."
        )
        yield _finding(layer.qweight, message)
        return
    yield from _grids(layer, bits, group)


def _grids(layer: Packed, bits: int, group: int | None) -> Iterator[Finding]:
    inputs = layer.weight(bits).shape[1]
    groups = -(-inputs // group) if group else _groups(layer)
    wanted = ((groups, words(layer.outputs, bits)), (groups, layer.outputs))
    for one, grid in zip((layer.qzeros, layer.scales), wanted, strict=True):
        if one is not None and one.shape != grid:
            message = f"It is {_told(one)}; a weight of {layer.outputs} x {inputs} in {bits} bits "
            yield _finding(one, f"{message}needs {grid[0]} x {grid[1]}.")


def _groups(layer: Packed) -> int:
    return next((one.shape[0] for one in (layer.scales, layer.qzeros) if one and one.shape), 0)


def _told(one: StoredTensor) -> str:
    return " x ".join(map(str, one.shape)) or "a single number"


def _strays(tensors: Mapping[str, StoredTensor]) -> Iterator[Finding]:
    for name, one in tensors.items():
        start, _, part = name.rpartition(".")
        if part in PARTS[1:] and f"{start}{SUFFIXES[0]}" not in tensors:
            yield _finding(one, f"The codes that it is for ({SUFFIXES[0]}) are not there.")
