"""Quantized weights and their scales: FP8 and GPTQ. The parts of each fit each other.

FP8: ``quantization_config.weight_block_size`` is ``[b0, b1]``; a matrix of r x c has a tensor
``…_scale_inv`` of ceil(r / b0) x ceil(c / b1) (transformers, "Fine-grained FP8"; DeepSeek-V3). GPTQ's
layout is told in ``checkpoint/gptq.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from archiver.archive.findings import Finding
from archiver.smoke.checkpoint.gptq import PARTS, SUFFIXES, packed, usual_bits, words
from archiver.smoke.report import Proof, shortened
from archiver.text import plural

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from archiver.smoke.checkpoint.config import ModelConfig
    from archiver.smoke.checkpoint.files import StoredTensor
    from archiver.smoke.checkpoint.gptq import Packed


# ---- FP8
#
# ``quantization_config.weight_block_size`` is ``[b0, b1]``; a matrix of r x c has a tensor
# ``…_scale_inv`` of ceil(r / b0) x ceil(c / b1) (transformers, "Fine-grained FP8"; DeepSeek-V3).


SCALE: Final = "_scale_inv"
_MATRIX: Final = 2
_FP8_HINT: Final = (
    "Compare the file with upstream's: an FP8 weight without its scale has no meaning."
)


def check_scales(tensors: Mapping[str, StoredTensor], config: ModelConfig) -> Proof:
    """Check that each FP8 matrix has the scales of its blocks, and each tensor of scales its matrix."""
    if config.quant_method != "fp8":
        return Proof(())
    block = _block((config.quantization or {}).get("weight_block_size"))
    findings = (
        *shortened(_fp8_weights(tensors, block)),
        *shortened(_stray_scales(tensors)),
    )
    count = sum(name.endswith(SCALE) for name in tensors)
    right = "the right grid" if block else "a matrix"
    return Proof(
        (f"{plural(count, 'tensor')} of FP8 scales: each has {right}",) if not findings else (),
        findings,
    )


def _block(raw: Any) -> tuple[int, int] | None:
    """Return the sides of a block; None where a matrix has one scale, or the config makes no sense."""
    if not isinstance(raw, list) or len(raw) != _MATRIX:
        return None
    if not all(isinstance(side, int) and side > 0 for side in raw):
        return None
    return raw[0], raw[1]


def _fp8_finding(tensor: StoredTensor, message: str) -> Finding:
    return Finding("model-scale", message, path=tensor.file, tensor=tensor.name, hint=_FP8_HINT)


def _fp8_weights(
    tensors: Mapping[str, StoredTensor], block: tuple[int, int] | None
) -> Iterator[Finding]:
    for tensor in tensors.values():
        if tensor.dtype != "F8_E4M3":
            continue
        scale = tensors.get(tensor.name + SCALE)
        if len(tensor.shape) < _MATRIX:
            yield _fp8_finding(tensor, "The FP8 tensor is no matrix, so no scales can be for it.")
        elif scale is None:
            yield _fp8_finding(tensor, f"The FP8 weight has no scales ({SCALE}).")
        elif block and scale.shape != (grid := _fp8_grid(tensor.shape, block)):
            shape = (
                f"{_sides(scale.shape)}; the weight, {_sides(tensor.shape)}, needs {_sides(grid)}"
            )
            yield _fp8_finding(scale, f"The scales are {shape}.")


def _fp8_grid(shape: tuple[int, ...], block: tuple[int, int]) -> tuple[int, ...]:
    rows, columns = shape[-2:]
    return (*shape[:-2], -(-rows // block[0]), -(-columns // block[1]))


def _sides(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "a single number"


def _stray_scales(tensors: Mapping[str, StoredTensor]) -> Iterator[Finding]:
    for name, tensor in tensors.items():
        if name.endswith(SCALE):
            weight = tensors.get(name.removesuffix(SCALE))
            if weight is None:
                yield _fp8_finding(tensor, "The weight that the scales are for is not there.")
            elif weight.dtype != "F8_E4M3":
                yield _fp8_finding(
                    tensor, f"The weight that the scales are for is {weight.dtype}, not FP8."
                )


# ---- GPTQ


_GPTQ_HINT: Final = "Compare the file with upstream's: the codes alone have no meaning."


def check_gptq(tensors: Mapping[str, StoredTensor], config: ModelConfig) -> Proof:
    """Check that each packed weight has its scales and zero points, of the grid of its groups."""
    if config.quant_method != "gptq":
        return Proof(())
    layers = list(packed(tensors))
    bits, group = usual_bits(config), _group_size(config)
    wrong = (finding for layer in layers for finding in _gptq_faults(layer, bits, group))
    findings = (*shortened(wrong), *shortened(_stray_parts(tensors)))
    message = f"{plural(len(layers), 'GPTQ weight')}: each has its scales and zero points"
    return Proof((message,) if not findings else (), findings)


def _group_size(config: ModelConfig) -> int | None:
    """Return inputs that share a scale; None where the config makes no sense, or layers have their own."""
    said = config.quantization or {}
    rules: Any = said.get("dynamic")
    if isinstance(rules, dict) and any(isinstance(rule, dict) and rule for rule in rules.values()):
        return None
    size = said.get("group_size")
    return size if isinstance(size, int) and size > 0 else None


def _gptq_finding(tensor: StoredTensor, message: str) -> Finding:
    return Finding("model-scale", message, path=tensor.file, tensor=tensor.name, hint=_GPTQ_HINT)


def _gptq_faults(layer: Packed, usual: int, group: int | None) -> Iterator[Finding]:
    for part, tensor in zip(PARTS[1:3], (layer.qzeros, layer.scales), strict=True):
        if tensor is None:
            yield _gptq_finding(layer.qweight, f"The GPTQ weight has no {part}.")
    bits = layer.bits(usual)
    if bits is None:
        shape = _sides(layer.qweight.shape)
        message = f"The codes are {shape}: no number of bits fits {layer.inputs} inputs."
        yield _gptq_finding(layer.qweight, message)
        return
    yield from _grids(layer, bits, group)


def _grids(layer: Packed, bits: int, group: int | None) -> Iterator[Finding]:
    inputs = layer.weight(bits).shape[1]
    groups = -(-inputs // group) if group else _groups(layer)
    grids = ((groups, words(layer.outputs, bits)), (groups, layer.outputs))
    for tensor, grid in zip((layer.qzeros, layer.scales), grids, strict=True):
        if tensor is not None and tensor.shape != grid:
            weight = f"a weight of {layer.outputs} x {inputs} in {bits} bits"
            message = f"It is {_sides(tensor.shape)}; {weight} needs {grid[0]} x {grid[1]}."
            yield _gptq_finding(tensor, message)


def _groups(layer: Packed) -> int:
    return next(
        (tensor.shape[0] for tensor in (layer.scales, layer.qzeros) if tensor and tensor.shape), 0
    )


def _stray_parts(tensors: Mapping[str, StoredTensor]) -> Iterator[Finding]:
    for name, tensor in tensors.items():
        start, _, part = name.rpartition(".")
        if part in PARTS[1:] and f"{start}{SUFFIXES[0]}" not in tensors:
            yield _gptq_finding(tensor, f"The codes that it is for ({SUFFIXES[0]}) are not there.")
