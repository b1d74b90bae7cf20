"""Level ``structure``: the files, tensors and config of a model fit each other."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import msgspec

from archiver.archive.findings import Finding
from archiver.errors import SkippedError
from archiver.smoke.checkpoint.model_files import model_files, model_tensors, read_indexes
from archiver.smoke.config import ModelConfig
from archiver.smoke.report import FailedError, Proof
from archiver.smoke.structure.dtypes import check_dtypes
from archiver.smoke.structure.experts import check_experts
from archiver.smoke.structure.gptq import check_gptq
from archiver.smoke.structure.index import check_indexes
from archiver.smoke.structure.meta_load import check_meta_load
from archiver.smoke.structure.mtp import check_mtp
from archiver.smoke.structure.others import check_others
from archiver.smoke.structure.scales import check_scales
from archiver.smoke.structure.tied import check_tied
from archiver.smoke.structure.weight_files import Headers, check_zeros, read_headers
from archiver.text import human_bytes, plural

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from archiver.smoke.checkpoint.protocol import StoredTensor
    from archiver.smoke.trial import Trial

_PARTS: Final = (check_scales, check_gptq, check_experts, check_tied)
_EXPERT: Final = re.compile(r"(.*\.experts)\.[0-9]+\.")


def check_structure(trial: Trial) -> Proof:
    """All that headers, index and config tell, and whether the model's class takes the tensors.

    Raises:
        SkippedError: There are weights, but none in safetensors.
        FailedError: There are no weights.
        DamageError: A file cannot be read as it should be.
    """
    headers = read_headers(trial.checkpoint)
    config = _config(trial)
    tied = isinstance(config, ModelConfig) and config.tied is True
    files = _of_files(trial, headers, tied=tied)
    tensors = trial.tensors
    proofs = [
        _of_headers(headers, tensors),
        *files,
        check_zeros(trial.checkpoint, tensors.values()),
        *([config] if isinstance(config, Proof) else _of_config(trial, config)),
    ]
    findings = _each_tensor_once(finding for proof in proofs for finding in proof.findings)
    facts = {"shards": _shards(tensors), "tensors": len(tensors), "bytes": _size(tensors)}
    return Proof(tuple(one for proof in proofs for one in proof.proved), findings, facts)


def _config(trial: Trial) -> ModelConfig | Proof:
    """What ``config.json`` says, or what is wrong with it."""
    try:
        return trial.config
    except SkippedError as error:
        return Proof((), (Finding("model-not-tried", error.message, hint=error.hint),))
    except FailedError as error:
        return Proof((), error.findings)


def _of_files(trial: Trial, headers: Headers, *, tied: bool) -> list[Proof]:
    """Which files make the model, by the indexes; sets ``trial.tensors``.

    Indexes are read once: that of the largest models has 24 MB.
    """
    checkpoint = trial.checkpoint
    indexes = read_indexes(checkpoint)
    trial.tensors = model_tensors(checkpoint, indexes)
    index = check_indexes(indexes, checkpoint.files, headers.found, tied=tied)
    return [index, check_others(checkpoint.files, model_files(checkpoint, indexes))]


def _shards(tensors: Mapping[str, StoredTensor]) -> int:
    return len({one.file for one in tensors.values()})


def _size(tensors: Mapping[str, StoredTensor]) -> int:
    return sum(one.size for one in tensors.values())


def _of_headers(headers: Headers, tensors: Mapping[str, StoredTensor]) -> Proof:
    if headers.findings or not headers.found:
        return Proof((), headers.findings)
    shards = plural(_shards(tensors), "shard")
    told = f"{shards}, {plural(len(tensors), 'tensor')}, {human_bytes(_size(tensors))}"
    return Proof((f"{told}: every header is sound",))


def _of_config(trial: Trial, config: ModelConfig) -> list[Proof]:
    """What is looked at in the light of the config."""
    tensors = trial.tensors
    parts = [check(tensors, config) for check in _PARTS]
    load = _told_of_experts(check_meta_load(trial, tensors), _blamed(*parts))
    mtp = check_mtp(tensors, config, _blamed(*parts, load))
    return [check_dtypes(tensors, config), mtp, *parts, load]


def _blamed(*proofs: Proof) -> set[str]:
    return {one.tensor for proof in proofs for one in proof.findings if not one.remark}


def _told_of_experts(load: Proof, blamed: set[str]) -> Proof:
    """Without what transformers cannot join of experts, where one of them is known to be wrong."""
    layers = {found[1] for name in blamed if (found := _EXPERT.match(name))}
    kept = tuple(one for one in load.findings if one.tensor.rpartition(".")[0] not in layers)
    return msgspec.structs.replace(load, findings=kept)


def _each_tensor_once(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Without those that say again of a tensor what was said: two looks may find the same."""
    said: dict[tuple[str, str] | Finding, Finding] = {}
    for one in findings:
        said.setdefault((one.code, one.tensor) if one.tensor else one, one)
    return tuple(said.values())
