"""An index (``*.safetensors.index.json``) against the headers: which tensor is in which shard.

Format: ``{"metadata": {"total_size": BYTES}, "weight_map": {TENSOR: SHARD}}``, the shards named from
the index's own folder (Hugging Face, "Serialization"). Shards are known by it alone, not by a pattern.
"""

from __future__ import annotations

import posixpath
from collections import Counter
from typing import TYPE_CHECKING, Final

from archiver.archive.finding import Finding
from archiver.smoke.checkpoint.model_files import (
    SINGLE,
    SUFFIX,
    Index,
    index_files,
    owners_of,
    read_index,
)
from archiver.smoke.report import Proof
from archiver.smoke.structure.listing import shortened
from archiver.text import plural, printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from archiver.smoke.checkpoint.protocol import Checkpoint
    from archiver.tensors.header import Header

_HINT: Final = "Compare the index and the shards with upstream's; one of them is not of this model."


def check_index(checkpoint: Checkpoint, headers: Mapping[str, Header]) -> Proof:
    """Every index against the headers of its shards.

    A shard whose header is not acceptable is left to the finding about it.
    """
    findings: list[Finding] = []
    named: set[str] = set()
    paths = index_files(checkpoint)
    for path in paths:
        found = _read(checkpoint, path)
        if isinstance(found, Finding):
            findings.append(found)
            continue
        owners = owners_of(path, found)
        named |= set(owners.values())
        findings += _compared(path, found, owners, checkpoint, headers)
    good = bool(paths) and not findings
    findings += _unnamed(checkpoint, paths, named)
    proved = ("the index agrees with the headers",) if good else ()
    return Proof(proved, tuple(findings))


def _read(checkpoint: Checkpoint, path: str) -> Index | Finding:
    try:
        return read_index(checkpoint, path)
    except ValueError as error:
        return Finding("model-index", f"{printable(path)} {error}.", path=path, hint=_HINT)


def _compared(
    path: str,
    index: Index,
    owners: dict[str, str],
    checkpoint: Checkpoint,
    headers: Mapping[str, Header],
) -> Iterator[Finding]:
    shards = Counter(owners.values())
    gone = [shard for shard in sorted(shards) if shard not in checkpoint.files]
    yield from shortened(_missing_shard(path, shard, shards[shard]) for shard in gone)
    there = {shard: headers[shard] for shard in sorted(shards) if shard in headers}
    holders = _holders(there)
    yield from shortened(_misplaced(path, owners, there, holders))
    yield from shortened(_unlisted(path, owners, there))
    yield from shortened(_doubled(path, holders))
    if len(there) == len(shards):
        yield from _wrong_total(path, index, there)


def _holders(there: dict[str, Header]) -> dict[str, list[str]]:
    holders: dict[str, list[str]] = {}
    for shard, header in there.items():
        for tensor in header.tensors:
            holders.setdefault(tensor.name, []).append(shard)
    return holders


def _finding(path: str, message: str, tensor: str = "") -> Finding:
    return Finding("model-index", message, path=path, tensor=tensor, hint=_HINT)


def _missing_shard(path: str, shard: str, count: int) -> Finding:
    tensors = plural(count, "tensor")
    return _finding(path, f"It lists {tensors} in {printable(shard)}, which is not there.")


def _misplaced(
    path: str, owners: dict[str, str], there: dict[str, Header], holders: dict[str, list[str]]
) -> Iterator[Finding]:
    for name, shard in owners.items():
        inside = holders.get(name, ())
        if shard in there and shard not in inside:
            truth = f"it is in {printable(inside[0])}" if inside else "no shard has it"
            yield _finding(path, f"It lists the tensor in {printable(shard)}; {truth}.", name)


def _unlisted(path: str, owners: dict[str, str], there: dict[str, Header]) -> Iterator[Finding]:
    for shard, header in there.items():
        for tensor in header.tensors:
            if tensor.name not in owners:
                message = f"{printable(shard)} has a tensor that the index does not list."
                yield _finding(path, message, tensor.name)


def _doubled(path: str, holders: dict[str, list[str]]) -> Iterator[Finding]:
    for name, shards in holders.items():
        if len(shards) > 1:
            where = " and in ".join(map(printable, shards[:2]))
            yield _finding(path, f"The tensor is in {where}.", name)


def _wrong_total(path: str, index: Index, there: dict[str, Header]) -> Iterator[Finding]:
    total = (index.metadata or {}).get("total_size")
    size = sum(one.end - one.begin for header in there.values() for one in header.tensors)
    if total is not None and total != size:
        said = printable(str(total), 40)
        yield _finding(path, f"Its total_size is {said}; the tensors have {size} bytes.")


def _unnamed(checkpoint: Checkpoint, paths: list[str], named: set[str]) -> Iterator[Finding]:
    """Files beside an index that it does not name: adapters, or the same weights once more."""
    folders = {posixpath.dirname(path) for path in paths}
    for file in sorted(checkpoint.files):
        if file.endswith(SUFFIX) and posixpath.dirname(file) in folders and file not in named:
            told = f"No index names {printable(file)}; it was not tried."
            if file == SINGLE:
                told = f"{SINGLE} is what is loaded; the files that an index names were not tried."
            yield Finding("model-not-tried", told, path=file)
