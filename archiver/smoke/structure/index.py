"""An index (``*.safetensors.index.json``) against the headers: which tensor is in which shard.

Format: ``{"metadata": {"total_size": BYTES}, "weight_map": {TENSOR: SHARD}}``, the shards named from
the index's own folder (Hugging Face, "Serialization"). Shards are known by it alone, not by a pattern.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

from archiver.archive.findings import Finding
from archiver.smoke.report import Proof
from archiver.smoke.structure.listing import shortened
from archiver.smoke.structure.shared import shared_tensors
from archiver.smoke.structure.total_size import counting_of, stored_bytes
from archiver.tensors.weight_files import owners_of
from archiver.text import plural, printable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from archiver.smoke.checkpoint.model_files import Indexes
    from archiver.tensors.header import Header
    from archiver.tensors.weight_files import Index

_HINT: Final = "Compare the index and the shards with upstream's; one of them is not of this model."


@dataclass(frozen=True)
class _Listed:
    """An index, and the headers of its shards as far as they are acceptable."""

    path: str
    index: Index
    there: Mapping[str, Header]
    tied: bool

    @cached_property
    def owners(self) -> dict[str, str]:
        """The shard of each tensor, as the index has it."""
        return owners_of(self.path, self.index)

    @cached_property
    def holders(self) -> dict[str, list[str]]:
        """Which shards have a tensor."""
        holders: dict[str, list[str]] = {}
        for shard, header in self.there.items():
            for tensor in header.tensors:
                holders.setdefault(tensor.name, []).append(shard)
        return holders

    @cached_property
    def shared(self) -> dict[str, int]:
        """Names that stand for a stored tensor, with its size in bytes."""
        return shared_tensors(self.there.values(), tied=self.tied)

    def finding(self, message: str, tensor: str = "") -> Finding:
        return Finding("model-index", message, path=self.path, tensor=tensor, hint=_HINT)


def check_indexes(
    indexes: Indexes, files: Collection[str], headers: Mapping[str, Header], *, tied: bool
) -> Proof:
    """Every index against the headers of its shards.

    Args:
        indexes: All there are.
        files: The paths of all files.
        headers: The acceptable ones by path; the others have a finding of their own.
        tied: Whether the head is the embedding, as the config says.
    """
    proofs = [_checked(path, index, files, headers, tied=tied) for path, index in indexes.items()]
    findings = tuple(finding for proof in proofs for finding in proof.findings)
    proved = dict.fromkeys(one for proof in proofs for one in proof.proved)
    return Proof(() if findings else tuple(proved), findings)


def _checked(
    path: str,
    index: Index | str,
    files: Collection[str],
    headers: Mapping[str, Header],
    *,
    tied: bool,
) -> Proof:
    if isinstance(index, str):
        message = f"{printable(path)} {index}."
        return Proof((), (Finding("model-index", message, path=path, hint=_HINT),))
    shards = sorted(set(owners_of(path, index).values()))
    there = {shard: headers[shard] for shard in shards if shard in headers}
    listed = _Listed(path, index, there, tied)
    findings = tuple(_compared(listed, files))
    if len(there) < len(shards):
        return Proof((), findings)
    total = _total(listed)
    return Proof(total.proved, (*findings, *total.findings))


def _compared(listed: _Listed, files: Collection[str]) -> Iterator[Finding]:
    yield from shortened(_gone(listed, files))
    yield from shortened(_misplaced(listed))
    yield from shortened(_unlisted(listed))
    yield from shortened(_doubled(listed))


def _gone(listed: _Listed, files: Collection[str]) -> Iterator[Finding]:
    for shard, count in sorted(Counter(listed.owners.values()).items()):
        if shard not in files:
            tensors = plural(count, "tensor")
            yield listed.finding(f"It lists {tensors} in {printable(shard)}, which is not there.")


def _misplaced(listed: _Listed) -> Iterator[Finding]:
    for name, shard in listed.owners.items():
        inside = listed.holders.get(name, ())
        if shard in listed.there and shard not in inside and name not in listed.shared:
            truth = f"it is in {printable(inside[0])}" if inside else "no shard has it"
            yield listed.finding(f"It lists the tensor in {printable(shard)}; {truth}.", name)


def _unlisted(listed: _Listed) -> Iterator[Finding]:
    for shard, header in listed.there.items():
        for tensor in header.tensors:
            if tensor.name not in listed.owners:
                message = f"{printable(shard)} has a tensor that the index does not list."
                yield listed.finding(message, tensor.name)


def _doubled(listed: _Listed) -> Iterator[Finding]:
    for name, shards in listed.holders.items():
        if len(shards) > 1:
            where = " and in ".join(map(printable, shards[:2]))
            yield listed.finding(f"The tensor is in {where}.", name)


def _total(listed: _Listed) -> Proof:
    total = listed.index.total_size
    headers = listed.there.values()
    way = "" if total is None else counting_of(total, headers, sum(listed.shared.values()))
    if way is None:
        said, size = printable(str(total), 40), stored_bytes(headers)
        message = f"Its total_size is {said}; the tensors have {size} bytes."
        return Proof((), (listed.finding(message),))
    told = f", but its total_size counts {way}" if way else ""
    return Proof((f"the index agrees with the headers{told}",))
