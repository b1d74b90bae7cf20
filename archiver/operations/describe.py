"""Describe: what a revision is made of, and what storing it saved."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from archiver.archive.manifests import tensors_of
from archiver.archive.quarantine import packs_for
from archiver.catalogue.groups import Group, groups_of
from archiver.errors import ArchiverError
from archiver.export.model import ModelFacts, model_facts

if TYPE_CHECKING:
    from archiver.archive.archive import Archive
    from archiver.archive.records import Manifest
    from archiver.archive.seals import Snapshot


class Savings(msgspec.Struct, frozen=True):
    """What storing a revision saved, in bytes, step by step.

    Attributes:
        files: What restoring writes.
        distinct: The same with equal segments counted once.
        stored: What these take in packs, encoded.
        shared: Of ``distinct``, what the snapshot before had already.
        shared_with: The id of that snapshot; ``""`` if there is none, or its manifest is not whole.
    """

    files: int
    distinct: int
    stored: int
    shared: int = 0
    shared_with: str = ""


class Description(NamedTuple):
    """What a revision is made of, which stays as it is.

    ``dtypes`` are (dtype, tensors, bytes) and ``groups`` tensors that only numbers in their names tell
    apart: both the most bytes first. ``model`` is None if what tells it cannot be read.
    """

    dtypes: tuple[tuple[str, int, int], ...]
    groups: tuple[Group, ...]
    tensor_bytes: int
    largest_tensor: int
    savings: Savings
    model: ModelFacts | None


def describe(
    archive: Archive, snapshot: Snapshot, manifest: Manifest, before: Manifest | None
) -> Description:
    """Return what a snapshot is made of; ``before`` is the manifest of its seal's parent, if any."""
    counts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    largest = 0
    for entry in manifest.files:
        for tensor in tensors_of(entry):
            size = tensor.end - tensor.begin
            counts[tensor.dtype] += 1
            sizes[tensor.dtype] += size
            largest = max(largest, size)
    groups = groups_of(tensor for entry in manifest.files for tensor in tensors_of(entry))
    try:
        model = model_facts(manifest, packs_for(archive, snapshot))
    except ArchiverError:
        model = None
    return Description(
        dtypes=tuple((dtype, counts[dtype], size) for dtype, size in sizes.most_common()),
        groups=tuple(sorted(groups, key=lambda group: (-group.bytes, group.pattern))),
        tensor_bytes=sizes.total(),
        largest_tensor=largest,
        savings=_savings(snapshot, manifest, before),
        model=model,
    )


def _savings(snapshot: Snapshot, manifest: Manifest, before: Manifest | None) -> Savings:
    segments = {digest: size for entry in manifest.files for size, digest in entry.segments}
    known: set[str] = set()
    if before is not None:
        known = {digest for entry in before.files for _, digest in entry.segments}
    return Savings(
        files=sum(entry.size for entry in manifest.files),
        distinct=sum(segments.values()),
        stored=snapshot.seal.totals.stored,
        shared=sum(size for digest, size in segments.items() if digest in known),
        shared_with=snapshot.seal.parent if before is not None else "",
    )
