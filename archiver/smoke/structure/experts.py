"""The experts of a mixture: as many as the config says, each with all its matrices.

Stored one tensor each (``….experts.7.up_proj.weight``), or fused with the expert as dimension 0
(``….experts.gate_up_proj``).
"""

from __future__ import annotations

import re
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, Final

from archiver.archive.findings import Finding
from archiver.smoke.report import Proof
from archiver.smoke.structure.listing import MOST, counted, shortened
from archiver.text import plural

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from archiver.smoke.checkpoint.protocol import StoredTensor
    from archiver.smoke.config import ModelConfig

_MATRIX: Final = "gate_up_proj|gate_proj|up_proj|down_proj|w1|w2|w3"
_ONE: Final = re.compile(rf"(.*\.experts)\.([0-9]{{1,9}})\.({_MATRIX})\.(?:weight|qweight)")
_FUSED: Final = re.compile(r"(.*\.experts)\.(?:gate_up_proj|gate_proj|up_proj|down_proj)")
_KEYS: Final = ("num_experts", "num_local_experts", "n_routed_experts")
_RANK: Final = 3
_FEW: Final = 4
"""So many times fewer experts than all may differ by a fault."""
_HINT: Final = "Compare with upstream's files; a shard may be of another model."


def expert_count(config: ModelConfig) -> int | None:
    """How many experts a layer has, as the config says; None if it says nothing."""
    found = (config.text.get(key) for key in _KEYS)
    return next((one for one in found if isinstance(one, int) and one > 0), None)


def check_experts(tensors: Mapping[str, StoredTensor], config: ModelConfig) -> Proof:
    """That no layer lacks an expert, or a matrix of one.

    Those of layers for multi-token prediction are left to ``mtp.py``: the model runs without them.
    """
    tensors = {name: one for name, one in tensors.items() if not name.startswith("mtp.")}
    count = expert_count(config)
    layers = _layers(tensors)
    findings = (
        *_missing(layers, count),
        *shortened(_misshapen(tensors, count)),
        *shortened(_unlike(tensors)),
    )
    fused = {found[1] for found in map(_FUSED.fullmatch, tensors) if found}
    if findings or not (layers or fused):
        return Proof((), findings)
    number = f"all {count:,}" if count else "the same matrices"
    return Proof((f"{plural(len(fused | set(layers)), 'layer')} of experts: each has {number}",))


def _layers(tensors: Mapping[str, StoredTensor]) -> dict[str, dict[str, set[int]]]:
    """By layer and matrix: the numbers of the experts that have it."""
    layers: dict[str, dict[str, set[int]]] = {}
    for name in tensors:
        if found := _ONE.fullmatch(name):
            layers.setdefault(found[1], {}).setdefault(found[3], set()).add(int(found[2]))
    every = {matrix for layer in layers.values() for matrix in layer}
    for layer in layers.values():
        for matrix in every:
            layer.setdefault(matrix, set())
    return layers


def _missing(layers: dict[str, dict[str, set[int]]], count: int | None) -> Iterator[Finding]:
    told = 0
    for at, layer in layers.items():
        wanted = count or max(number for there in layer.values() for number in there) + 1
        for matrix, there in layer.items():
            gaps = (number for number in range(wanted) if number not in there)
            for number in islice(gaps, max(0, MOST - told)):
                yield _lack(f"{at}.{number}.{matrix}.weight", wanted)
            told += wanted - sum(number < wanted for number in there)
    if told > MOST:
        yield counted("model-tensor-missing", "", told - MOST)


def _lack(name: str, wanted: int) -> Finding:
    message = f"The expert's matrix is not there; the layer should have {plural(wanted, 'expert')}."
    return Finding("model-tensor-missing", message, tensor=name, hint=_HINT)


def _misshapen(tensors: Mapping[str, StoredTensor], count: int | None) -> Iterator[Finding]:
    for name, one in tensors.items():
        if count and _FUSED.fullmatch(name) and len(one.shape) == _RANK and one.shape[0] != count:
            yield _misfit(one, f"It holds {one.shape[0]:,} experts; the config says {count:,}.")


def _misfit(one: StoredTensor, message: str) -> Finding:
    return Finding("model-tensor-shape", message, path=one.file, tensor=one.name, hint=_HINT)


def _unlike(tensors: Mapping[str, StoredTensor]) -> Iterator[Finding]:
    """Matrices of another shape than those of most other experts of the layer.

    Where many differ, it is meant so: ERNIE's experts of pictures are narrower.
    """
    alike: dict[tuple[str, str], list[StoredTensor]] = {}
    for name, one in tensors.items():
        if found := _ONE.fullmatch(name):
            alike.setdefault((found[1], found[3]), []).append(one)
    for matrices in alike.values():
        usual = Counter(one.shape for one in matrices).most_common(1)[0][0]
        odd = [one for one in matrices if one.shape != usual]
        for one in odd if len(odd) * _FEW <= len(matrices) else ():
            shapes = f"the shape {list(one.shape)}; other experts have {list(usual)}"
            yield _misfit(one, f"The tensor has {shapes}.")
