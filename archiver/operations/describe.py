"""Describe: what a revision is made of, what storing it saved, and when it was last proven here."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from archiver.archive.check.proofs import proofs_of, readable_events
from archiver.archive.manifests import tensors_of
from archiver.archive.places import own_place
from archiver.archive.policy import LEVELS
from archiver.archive.quarantine import packs_for
from archiver.catalogue.groups import Group, groups_of
from archiver.errors import ArchiverError
from archiver.export.model import ModelFacts, model_facts
from archiver.text import utc_before, utc_now

if TYPE_CHECKING:
    from archiver.archive.archive import Archive
    from archiver.archive.records import Manifest
    from archiver.archive.seals import Snapshot

_DAY = 86400


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


class ProofAge(msgspec.Struct, frozen=True):
    """When the packs of a snapshot were last proven at this place; times are ``""`` if never.

    Attributes:
        packs: How many there are.
        never: How many of them were never proven here.
        damaged: How many an audit found damaged, and neither repaired nor whole since.
        oldest: When that was proven whose proof is the oldest.
        newest: When that was proven whose proof is the newest.
        level: The deepest level at which all were proven.
        files: When all its files were last made and hashed.
        old: Whether the oldest is older than the policy allows.
    """

    packs: int
    never: int
    damaged: int
    oldest: str
    newest: str
    level: str
    files: str
    old: bool


def proof_age(archive: Archive, snapshot: Snapshot) -> ProofAge:
    """Return when a snapshot's packs were last proven at this place, by the journal."""
    now = utc_now()
    proofs = proofs_of(readable_events(archive.journal), now, own_place(archive))
    packs = [pack for pack, _ in snapshot.seal.packs]
    times = [proof.time for pack in packs if (proof := proofs.last(pack))]
    complete = len(times) == len(packs)
    level = next(
        (each for each in reversed(LEVELS) if all(proofs.pack(pack, each) for pack in packs)), ""
    )
    days = archive.policy().audit_days
    oldest = min(times, default="") if complete else ""
    return ProofAge(
        packs=len(packs),
        never=len(packs) - len(times),
        damaged=sum(map(proofs.damaged, packs)),
        oldest=oldest,
        newest=max(times, default=""),
        level=level,
        files=proofs.snapshot(snapshot.id),
        old=bool(days and oldest < utc_before(days * _DAY)),
    )
