"""Layers that must be complete: the head, all experts of a mixture, those for multi-token prediction."""

from __future__ import annotations

import re
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, Final

from archiver.archive.findings import Finding
from archiver.smoke.checkpoint.gptq import unpacked
from archiver.smoke.report import MOST, Proof, counted, shortened
from archiver.text import plural, printable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from archiver.archive.findings import Code
    from archiver.smoke.checkpoint.config import ModelConfig
    from archiver.smoke.checkpoint.files import StoredTensor

    Shapes = dict[str, tuple[int, ...]]


# ---- the head, mostly ``lm_head.weight``


LM_HEAD: Final = "lm_head.weight"
# families that call their embedding otherwise call their head otherwise, too
EMBEDDINGS: Final = ("model.language_model.embed_tokens.weight", "model.embed_tokens.weight")
_HEADS: Final = (LM_HEAD, "head.weight")
"""DeepSeek-V4's is the second, also beside an embedding of the usual name, as transformers saves it."""
_GENERATES: Final = ("ForCausalLM", "ForConditionalGeneration")
_SHARD_HINT: Final = "Compare with upstream's files; a shard may be of another model."


def check_tied(tensors: Mapping[str, StoredTensor], config: ModelConfig) -> Proof:
    """Check that a model which generates has a head of its own, or an embedding to share."""
    if not config.architecture.endswith(_GENERATES) or config.tied is None:
        return Proof(())
    embedding = next((tensors[name] for name in EMBEDDINGS if name in tensors), None)
    head = next((tensors[name] for name in _HEADS if name in tensors), None)
    if not config.tied:
        return _own_head(head, embedding)
    if head is None:
        return _shared_head(embedding, config)
    if embedding and head.shape != embedding.shape:
        message = "The head is tied to the embedding and has another shape."
        return Proof((), (_head_finding("model-tensor-shape", message, head.name, head.file),))
    return Proof(("the head has the shape of the embedding that it is tied to",))


def _own_head(head: StoredTensor | None, embedding: StoredTensor | None) -> Proof:
    if head is not None:
        return Proof(("the head is there",))
    if embedding is None:
        return Proof(())
    message = "The head is not tied to the embedding, and it is not there."
    return Proof((), (_head_finding("model-tensor-missing", message, LM_HEAD),))


def _shared_head(embedding: StoredTensor | None, config: ModelConfig) -> Proof:
    if embedding is not None:
        return Proof(("the head is the embedding",))
    if not config.model_type.startswith("qwen3_5"):
        return Proof(())
    name = EMBEDDINGS[0 if config.text is not config.raw else 1]
    message = "The embedding is not there, which is the head as well."
    return Proof((), (_head_finding("model-tensor-missing", message, name),))


def _head_finding(code: Code, message: str, tensor: str, path: str = "") -> Finding:
    return Finding(code, message, path=path, tensor=tensor, hint=_SHARD_HINT)


# ---- experts
#
# Stored one tensor each (``….experts.7.up_proj.weight``), or fused with the expert as dimension 0
# (``….experts.gate_up_proj``).


_EXPERT_MATRIX: Final = "gate_up_proj|gate_proj|up_proj|down_proj|w1|w2|w3"
_EXPERT: Final = re.compile(
    rf"(.*\.experts)\.([0-9]{{1,9}})\.({_EXPERT_MATRIX})\.(?:weight|qweight)"
)
_FUSED_EXPERTS: Final = re.compile(r"(.*\.experts)\.(?:gate_up_proj|gate_proj|up_proj|down_proj)")
_COUNTS: Final = ("num_experts", "num_local_experts", "n_routed_experts")
_RANK: Final = 3
_FEW: Final = 4
"""So many times fewer experts than all may differ by a fault."""


def expert_count(config: ModelConfig) -> int | None:
    """Return how many experts a layer has, as the config says; None if it says nothing."""
    counts = (config.text.get(key) for key in _COUNTS)
    return next((finding for finding in counts if isinstance(finding, int) and finding > 0), None)


def check_experts(tensors: Mapping[str, StoredTensor], config: ModelConfig) -> Proof:
    """Check that no layer lacks an expert, or a matrix of one.

    Those of layers for multi-token prediction are left to ``mtp.py``: the model runs without them.
    """
    tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("mtp.")}
    count = expert_count(config)
    layers = _expert_layers(tensors)
    findings = (
        *_missing_experts(layers, count),
        *shortened(_misshapen_experts(tensors, count)),
        *shortened(_unlike_experts(tensors)),
    )
    fused = {match[1] for match in map(_FUSED_EXPERTS.fullmatch, tensors) if match}
    if findings or not (layers or fused):
        return Proof((), findings)
    number = f"all {count:,}" if count else "the same matrices"
    return Proof((f"{plural(len(fused | set(layers)), 'layer')} of experts: each has {number}",))


def _expert_layers(tensors: Mapping[str, StoredTensor]) -> dict[str, dict[str, set[int]]]:
    """Return, by layer and matrix, the numbers of the experts that have it."""
    layers: dict[str, dict[str, set[int]]] = {}
    for name in tensors:
        if match := _EXPERT.fullmatch(name):
            layers.setdefault(match[1], {}).setdefault(match[3], set()).add(int(match[2]))
    every = {matrix for layer in layers.values() for matrix in layer}
    for layer in layers.values():
        for matrix in every:
            layer.setdefault(matrix, set())
    return layers


def _missing_experts(
    layers: dict[str, dict[str, set[int]]], count: int | None
) -> Iterator[Finding]:
    lacking = 0
    for at, layer in layers.items():
        due = count or max(number for there in layer.values() for number in there) + 1
        for matrix, there in layer.items():
            gaps = (number for number in range(due) if number not in there)
            for number in islice(gaps, max(0, MOST - lacking)):
                yield _lacking(f"{at}.{number}.{matrix}.weight", due)
            lacking += due - sum(number < due for number in there)
    if lacking > MOST:
        yield counted("model-tensor-missing", "", lacking - MOST)


def _lacking(name: str, count: int) -> Finding:
    message = f"The expert's matrix is not there; the layer should have {plural(count, 'expert')}."
    return Finding("model-tensor-missing", message, tensor=name, hint=_SHARD_HINT)


def _misshapen_experts(tensors: Mapping[str, StoredTensor], count: int | None) -> Iterator[Finding]:
    for name, tensor in tensors.items():
        if (
            count
            and _FUSED_EXPERTS.fullmatch(name)
            and len(tensor.shape) == _RANK
            and tensor.shape[0] != count
        ):
            yield _expert_misfit(
                tensor, f"It holds {tensor.shape[0]:,} experts; the config says {count:,}."
            )


def _expert_misfit(tensor: StoredTensor, message: str) -> Finding:
    return Finding(
        "model-tensor-shape", message, path=tensor.file, tensor=tensor.name, hint=_SHARD_HINT
    )


def _unlike_experts(tensors: Mapping[str, StoredTensor]) -> Iterator[Finding]:
    """Yield matrices of another shape than those of most other experts of the layer.

    Where many differ, it is meant so: ERNIE's experts of pictures are narrower.
    """
    alike: dict[tuple[str, str], list[StoredTensor]] = {}
    for name, tensor in tensors.items():
        if match := _EXPERT.fullmatch(name):
            alike.setdefault((match[1], match[3]), []).append(tensor)
    for matrices in alike.values():
        usual = Counter(tensor.shape for tensor in matrices).most_common(1)[0][0]
        odd = [tensor for tensor in matrices if tensor.shape != usual]
        for other in odd if len(odd) * _FEW <= len(matrices) else ():
            shapes = f"the shape {list(other.shape)}; other experts have {list(usual)}"
            yield _expert_misfit(other, f"The tensor has {shapes}.")


# ---- multi-token prediction
#
# An MTP layer is a full-attention layer of the text model of its own (DeepSeek-V3 report, section
# 2.2; vLLM's ``qwen3_next_mtp.py`` for the names), so one of those says what must be there.


_TEXT_LAYER: Final = re.compile(
    r"((?:model\.)?(?:language_model\.)?(?:model\.)?layers\.[0-9]{1,9})\.(.+)"
)
_MTP_LAYER: Final = re.compile(r"mtp\.layers\.([0-9]{1,9})\.(.+)")
_FUSED_MATRIX: Final = re.compile(r"(.*\.experts)\.(gate_up_proj|down_proj)")
_OF_EXPERTS: Final = re.compile(r".*\.experts\.")
_MATRIX: Final = 2
_MOST_EXPERTS: Final = 8192
"""A shape costs nothing to write; what is expanded is bounded."""
_MTP_HINT: Final = (
    "Compare with upstream's files. The model runs without MTP layers, but slower than it could."
)


def check_mtp(
    tensors: Mapping[str, StoredTensor], config: ModelConfig, blamed: Collection[str] = ()
) -> Proof:
    """Check that the MTP layers which the config counts are there, each complete.

    ``blamed`` names tensors of the model proper that are known to be wrong: nothing is held to them.
    """
    if "mtp_num_hidden_layers" not in config.text:
        return Proof(())
    tensors = unpacked(tensors, config)
    due = _full_attention(tensors, blamed)
    proof, surplus = _counted(tensors, config, due), tuple(_surplus(tensors, config))
    return Proof(proof.proved, (*proof.findings, *surplus))


def _surplus(tensors: Mapping[str, StoredTensor], config: ModelConfig) -> Iterator[Finding]:
    """Yield a remark on layers beyond those that the config counts: nothing looks at them."""
    numbers = {int(match[1]) for name in tensors if (match := _MTP_LAYER.fullmatch(name))}
    more = sorted(number for number in numbers if number >= config.mtp_layers)
    if more:
        counted = plural(config.mtp_layers, "MTP layer")
        message = f"The config counts {counted}; there are tensors of {len(more):,} more."
        yield Finding("model-tensor-unused", message, tensor=f"mtp.layers.{more[0]}.*")


def _counted(tensors: Mapping[str, StoredTensor], config: ModelConfig, due: Shapes) -> Proof:
    count = config.mtp_layers
    if not count:
        return Proof(())
    if not any(name.startswith("mtp.") for name in tensors):
        message = f"The config counts {plural(count, 'MTP layer')}; no tensor mtp.* is there."
        return Proof((), (Finding("model-mtp", message, tensor="mtp.*", hint=_MTP_HINT),))
    if not config.layout_known:
        method = printable(config.quant_method)
        message = f"The MTP layers were not compared: the quantization {method!r} may pack them."
        return Proof((), (Finding("model-not-tried", message),))
    findings = (*_around(tensors, config), *shortened(_mtp_faults(tensors, config, due)))
    if findings:
        return Proof((), findings)
    are = "is" if count == 1 else "are"
    return Proof((f"{plural(count, 'MTP layer')} {are} complete",))


def _mtp_finding(name: str, message: str, path: str = "") -> Finding:
    return Finding("model-mtp", message, path=path, tensor=name, hint=_MTP_HINT)


def _around(tensors: Mapping[str, StoredTensor], config: ModelConfig) -> Iterator[Finding]:
    """Yield faults of what stands before and after the layers."""
    wide = config.text.get("hidden_size")
    ranks = {"fc": _MATRIX, "norm": 1, "pre_fc_norm_embedding": 1, "pre_fc_norm_hidden": 1}
    for part, rank in ranks.items():
        name = f"mtp.{part}.weight"
        tensor = tensors.get(name)
        if tensor is None:
            yield _mtp_finding(name, "The tensor of the MTP layers is not there.")
        elif isinstance(wide, int) and tensor.shape != (shape := (wide, 2 * wide)[:rank]):
            yield _mtp_misfit(name, tensor.shape, shape, tensor.file)


def _mtp_faults(
    tensors: Mapping[str, StoredTensor], config: ModelConfig, due: Shapes
) -> Iterator[Finding]:
    """Yield where an MTP layer differs from a full-attention layer of the text model."""
    there: dict[int, dict[str, StoredTensor]] = {}
    for name, tensor in tensors.items():
        if match := _MTP_LAYER.fullmatch(name):
            there.setdefault(int(match[1]), {})[match[2]] = tensor
    for number in range(min(config.mtp_layers, len(there) + 1)):
        at = f"mtp.layers.{number}"
        if number not in there:
            yield _mtp_finding(f"{at}.*", "No tensor of the MTP layer is there.")
            continue
        yield from _compared(at, _shapes(there[number]), due, there[number])


def _compared(
    at: str, shapes: Shapes, due: Shapes, stored: dict[str, StoredTensor]
) -> Iterator[Finding]:
    for suffix, shape in due.items():
        name = f"{at}.{suffix}"
        if suffix not in shapes:
            yield _mtp_finding(name, "The tensor of the MTP layer is not there.")
        elif shapes[suffix] != shape:
            path = stored[suffix].file if suffix in stored else ""
            yield _mtp_misfit(name, shapes[suffix], shape, path)


def _mtp_misfit(name: str, shape: tuple[int, ...], due: tuple[int, ...], path: str) -> Finding:
    message = f"The tensor has the shape {list(shape)}; the rest of the model needs {list(due)}."
    return _mtp_finding(name, message, path)


def _full_attention(tensors: Mapping[str, StoredTensor], blamed: Collection[str]) -> Shapes:
    """Return what most full-attention layers of the text model have; empty if there is none."""
    layers: dict[str, dict[str, StoredTensor]] = {}
    for name, tensor in tensors.items():
        if match := _TEXT_LAYER.fullmatch(name):
            layers.setdefault(match[1], {})[match[2]] = tensor
    full = [
        at for at in sorted(layers) if any(suffix.startswith("self_attn.") for suffix in layers[at])
    ]
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
    """Return a layer without what is known to be wrong; of experts, which are joined, without any."""
    wrong = {name.removeprefix(f"{at}.") for name in blamed if name.startswith(f"{at}.")}
    experts = tuple(match[0] for name in wrong if (match := _OF_EXPERTS.match(name)))
    return {
        suffix: tensor
        for suffix, tensor in layer.items()
        if suffix not in wrong and not suffix.startswith(experts)
    }


def _shapes(layer: dict[str, StoredTensor]) -> Shapes:
    """Return shapes as they are in a plain layer with one tensor for each expert's matrix."""
    shapes: Shapes = {}
    for suffix, tensor in layer.items():
        if match := _FUSED_MATRIX.fullmatch(suffix):
            shapes |= _unfused(match[1], match[2], tensor.shape)
        elif not suffix.endswith("_scale_inv"):
            shapes[suffix] = tensor.shape
    return shapes


def _unfused(at: str, kind: str, shape: tuple[int, ...]) -> Shapes:
    """Split ``gate_up_proj`` [experts, 2 x inner, hidden], ``down_proj`` [experts, hidden, inner]."""
    if len(shape) != _RANK or shape[0] > _MOST_EXPERTS:
        return {f"{at}.{kind}": shape}
    count, rows, columns = shape
    if kind == "down_proj":
        return {f"{at}.{number}.down_proj.weight": (rows, columns) for number in range(count)}
    parts = ("gate_proj", "up_proj")
    return {
        f"{at}.{number}.{part}.weight": (rows // 2, columns)
        for number in range(count)
        for part in parts
    }
