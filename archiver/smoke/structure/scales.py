"""FP8 weights and their scales: one scale for each block of a matrix.

``quantization_config.weight_block_size`` is ``[b0, b1]``; a matrix of r x c has a tensor
``…_scale_inv`` of ceil(r / b0) x ceil(c / b1) (transformers, "Fine-grained FP8"; DeepSeek-V3).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from archiver.archive.findings import Finding
from archiver.smoke.report import Proof
from archiver.smoke.structure.listing import shortened
from archiver.text import plural

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from archiver.smoke.checkpoint.protocol import StoredTensor
    from archiver.smoke.config import ModelConfig

SCALE: Final = "_scale_inv"
_MATRIX: Final = 2
_HINT: Final = "Compare the file with upstream's: an FP8 weight without its scale has no meaning."


def check_scales(tensors: Mapping[str, StoredTensor], config: ModelConfig) -> Proof:
    """That each FP8 matrix has the scales of its blocks, and each tensor of scales its matrix."""
    if config.quant_method != "fp8":
        return Proof(())
    block = _block((config.quantization or {}).get("weight_block_size"))
    findings = (
        *shortened(_weights(tensors, block)),
        *shortened(_strays(tensors)),
    )
    count = sum(name.endswith(SCALE) for name in tensors)
    right = "the right grid" if block else "a matrix"
    return Proof(
        (f"{plural(count, 'tensor')} of FP8 scales: each has {right}",) if not findings else (),
        findings,
    )


def _block(raw: Any) -> tuple[int, int] | None:
    """The sides of a block; None where a matrix has one scale, or the config makes no sense."""
    if not isinstance(raw, list) or len(raw) != _MATRIX:
        return None
    if not all(isinstance(side, int) and side > 0 for side in raw):
        return None
    return raw[0], raw[1]


def _finding(one: StoredTensor, message: str) -> Finding:
    return Finding("model-scale", message, path=one.file, tensor=one.name, hint=_HINT)


def _weights(
    tensors: Mapping[str, StoredTensor], block: tuple[int, int] | None
) -> Iterator[Finding]:
    for one in tensors.values():
        if one.dtype != "F8_E4M3":
            continue
        scale = tensors.get(one.name + SCALE)
        if len(one.shape) < _MATRIX:
            yield _finding(one, "The FP8 tensor is no matrix, so no scales can be for it.")
        elif scale is None:
            yield _finding(one, f"The FP8 weight has no scales ({SCALE}).")
        elif block and scale.shape != (grid := _grid(one.shape, block)):
            shape = f"{_told(scale.shape)}; the weight, {_told(one.shape)}, needs {_told(grid)}"
            yield _finding(scale, f"The scales are {shape}.")


def _grid(shape: tuple[int, ...], block: tuple[int, int]) -> tuple[int, ...]:
    rows, columns = shape[-2:]
    return (*shape[:-2], -(-rows // block[0]), -(-columns // block[1]))


def _told(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "a single number"


def _strays(tensors: Mapping[str, StoredTensor]) -> Iterator[Finding]:
    for name, one in tensors.items():
        if name.endswith(SCALE):
            weight = tensors.get(name.removesuffix(SCALE))
            if weight is None:
                yield _finding(one, "The weight that the scales are for is not there.")
            elif weight.dtype != "F8_E4M3":
                yield _finding(
                    one, f"The weight that the scales are for is {weight.dtype}, not FP8."
                )
