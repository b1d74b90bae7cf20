"""Level ``structure``: the files, tensors and config of a model fit each other."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import msgspec

from archiver.archive.findings import Finding
from archiver.errors import SkippedError
from archiver.smoke.checkpoint.config import ModelConfig
from archiver.smoke.checkpoint.files import SINGLE, SUFFIX, model_files, model_tensors, read_indexes
from archiver.smoke.report import FailedError, Proof
from archiver.smoke.structure.dtypes import check_dtypes
from archiver.smoke.structure.layers import check_experts, check_mtp, check_tied
from archiver.smoke.structure.meta_load import check_meta_load
from archiver.smoke.structure.quantization import check_gptq, check_scales
from archiver.smoke.structure.weight_files import Headers, check_indexes, check_zeros, read_headers
from archiver.text import human_bytes, plural, printable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from archiver.smoke.checkpoint.files import StoredTensor
    from archiver.smoke.session import Session


_NAMED: Final = 5


def check_others(files: Collection[str], loaded: Collection[str]) -> Proof:
    """Return a remark on them: adapters, the same weights in another layout, or parts around the model.

    Args:
        files: The paths of all files.
        loaded: Those that make the model.
    """
    others = sorted(path for path in files if path.endswith(SUFFIX) and path not in loaded)
    if not others:
        return Proof(())
    what = SINGLE if SINGLE in loaded else plural(len(loaded), "file")
    count = plural(len(others), "other file")
    listed = ", ".join(map(printable, others[:_NAMED])) + (", …" if len(others) > _NAMED else "")
    were = "was" if len(others) == 1 else "were"
    message = f"The model is loaded from {what}; {count} of weights {were} not tried: {listed}"
    path = others[0] if len(others) == 1 else ""
    return Proof((), (Finding("model-not-tried", message, path=path),))


# ---- the level


_PARTS: Final = (check_scales, check_gptq, check_experts, check_tied)
_EXPERT: Final = re.compile(r"(.*\.experts)\.[0-9]+\.")


def check_structure(session: Session) -> Proof:
    """Return all that headers, index and config tell, and whether the model's class takes the tensors.

    Raises:
        SkippedError: There are weights, but none in safetensors.
        FailedError: There are no weights.
        DamageError: A file cannot be read as it should be.
    """
    headers = read_headers(session.checkpoint)
    config = _config(session)
    tied = isinstance(config, ModelConfig) and config.tied is True
    files = _of_files(session, headers, tied=tied)
    tensors = session.tensors
    proofs = [
        _of_headers(headers, tensors),
        *files,
        check_zeros(session.checkpoint, tensors.values()),
        *([config] if isinstance(config, Proof) else _of_config(session, config)),
    ]
    findings = _each_tensor_once(finding for proof in proofs for finding in proof.findings)
    facts = {"shards": _shards(tensors), "tensors": len(tensors), "bytes": _size(tensors)}
    return Proof(tuple(sentence for proof in proofs for sentence in proof.proved), findings, facts)


def _config(session: Session) -> ModelConfig | Proof:
    """Return what ``config.json`` says, or what is wrong with it."""
    try:
        return session.config
    except SkippedError as error:
        return Proof((), (Finding("model-not-tried", error.message, hint=error.hint),))
    except FailedError as error:
        return Proof((), error.findings)


def _of_files(session: Session, headers: Headers, *, tied: bool) -> list[Proof]:
    """Return which files make the model, by the indexes; sets ``session.tensors``.

    Indexes are read once: that of the largest models has 24 MB.
    """
    checkpoint = session.checkpoint
    indexes = read_indexes(checkpoint)
    session.tensors = model_tensors(checkpoint, indexes)
    index = check_indexes(indexes, checkpoint.files, headers.sound, tied=tied)
    return [index, check_others(checkpoint.files, model_files(checkpoint, indexes))]


def _shards(tensors: Mapping[str, StoredTensor]) -> int:
    return len({tensor.file for tensor in tensors.values()})


def _size(tensors: Mapping[str, StoredTensor]) -> int:
    return sum(tensor.size for tensor in tensors.values())


def _of_headers(headers: Headers, tensors: Mapping[str, StoredTensor]) -> Proof:
    if headers.findings or not headers.sound:
        return Proof((), headers.findings)
    shards = plural(_shards(tensors), "shard")
    message = f"{shards}, {plural(len(tensors), 'tensor')}, {human_bytes(_size(tensors))}"
    return Proof((f"{message}: every header is sound",))


def _of_config(session: Session, config: ModelConfig) -> list[Proof]:
    """Check what can be judged by the config."""
    tensors = session.tensors
    parts = [check(tensors, config) for check in _PARTS]
    load = _without_joins(check_meta_load(session, tensors), _blamed(*parts))
    mtp = check_mtp(tensors, config, _blamed(*parts, load))
    return [check_dtypes(tensors, config), mtp, *parts, load]


def _blamed(*proofs: Proof) -> set[str]:
    return {finding.tensor for proof in proofs for finding in proof.findings if not finding.remark}


def _without_joins(load: Proof, blamed: set[str]) -> Proof:
    """Return it without what transformers cannot join of experts, where one is known to be wrong."""
    layers = {match[1] for name in blamed if (match := _EXPERT.match(name))}
    others = tuple(
        finding for finding in load.findings if finding.tensor.rpartition(".")[0] not in layers
    )
    return msgspec.structs.replace(load, findings=others)


def _each_tensor_once(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return those that say something new of a tensor: two looks may find the same."""
    said: dict[tuple[str, str] | Finding, Finding] = {}
    for finding in findings:
        said.setdefault((finding.code, finding.tensor) if finding.tensor else finding, finding)
    return tuple(said.values())
