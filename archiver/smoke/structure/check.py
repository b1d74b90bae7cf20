"""Level ``structure``: the files, tensors and config of a model fit each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from archiver.smoke.report import FailedError, Proof
from archiver.smoke.structure.dtypes import check_dtypes
from archiver.smoke.structure.experts import check_experts
from archiver.smoke.structure.index import check_index
from archiver.smoke.structure.meta_load import check_meta_load
from archiver.smoke.structure.mtp import check_mtp
from archiver.smoke.structure.scales import check_scales
from archiver.smoke.structure.tied import check_tied
from archiver.smoke.structure.weight_files import Headers, read_headers
from archiver.text import human_bytes, plural

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from archiver.archive.finding import Finding
    from archiver.smoke.checkpoint.protocol import StoredTensor
    from archiver.smoke.trial import Trial

_PARTS: Final = (check_dtypes, check_mtp, check_scales, check_experts, check_tied)


def check_structure(trial: Trial) -> Proof:
    """All that headers, index and config tell, and whether the model's class takes the tensors.

    Raises:
        SkippedError: There are weights, but none in safetensors.
        FailedError: There are no weights, or no usable config.
        DamageError: A file cannot be read as it should be.
    """
    headers = read_headers(trial.checkpoint)
    index = check_index(trial.checkpoint, headers.found)
    tensors = trial.tensors
    proofs = [_of_headers(headers, tensors), index, *_of_config(trial, tensors)]
    findings = _each_tensor_once(finding for proof in proofs for finding in proof.findings)
    facts = {"shards": _shards(tensors), "tensors": len(tensors), "bytes": _size(tensors)}
    return Proof(tuple(one for proof in proofs for one in proof.proved), findings, facts)


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


def _of_config(trial: Trial, tensors: Mapping[str, StoredTensor]) -> list[Proof]:
    try:
        config = trial.config
    except FailedError as error:
        return [Proof((), error.findings)]
    return [*(check(tensors, config) for check in _PARTS), check_meta_load(trial, tensors)]


def _each_tensor_once(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Without those that say again of a tensor what was said: two looks may find the same."""
    said: dict[tuple[str, ...], Finding] = {}
    for one in findings:
        key = (one.code, one.tensor) if one.tensor else (one.code, one.path, one.message)
        said.setdefault(key, one)
    return tuple(said.values())
