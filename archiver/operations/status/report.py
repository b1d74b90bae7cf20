"""What a status tells."""

from __future__ import annotations

import msgspec

from archiver.archive.copies import PlaceState
from archiver.archive.events import Sample
from archiver.archive.finding import Finding
from archiver.archive.plans import PlanStatus
from archiver.archive.policy import Level, Policy


class PackStatus(msgspec.Struct, frozen=True):
    """One pack.

    ``size`` is in bytes, by its seals; ``proven`` is the time of its newest proof and ``level`` that
    proof's level, both ``""`` if there is none.
    """

    pack: str
    size: int
    there: bool
    needed: bool
    proven: str
    level: str
    parity: bool


class Coverage(msgspec.Struct, frozen=True):
    """How many packs that are there, and bytes of packs, were proven at a level or a deeper one.

    ``recent`` ones were within the policy's days; without days these are all that ever were. ``oldest``
    is the time of the oldest of the newest proofs; ``""`` if there is none.
    """

    level: Level
    packs: int
    bytes: int
    recent_packs: int
    recent_bytes: int
    never: int
    oldest: str


class SmokeTested(msgspec.Struct, frozen=True):
    """When a whole snapshot was last smoke-tested at this place, and when it last held; ``""``: never.

    Tests count that were to run every level up to ``generate``.
    """

    snapshot: str
    repository: str
    revision: str
    tried: str
    held: str


class Shortfall(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something that is not as it is wanted; ``next`` is what to do about it.

    ``plan`` and ``entries`` name the plan and its entries that are concerned, where it is about one.
    """

    what: str
    message: str
    next: str
    plan: str = ""
    entries: tuple[str, ...] = ()


class LastAudit(msgspec.Struct, frozen=True):
    """What the newest audit at this place proved: of all, or of this repository and revision.

    ``complete`` is None if it did not come to its end, or an older writer did not say; ``heads`` and
    ``keys`` count what the journal and the signatures were checked against.
    """

    time: str
    level: str
    repository: str
    revision: str
    damaged: int
    complete: bool | None
    sample: Sample | None
    heads: int
    keys: int


class LostUpstream(msgspec.Struct, frozen=True):
    """What upstream has no more although it is held: a repository, and its branch, tag or commit.

    ``since`` is when that was first seen.
    """

    repository: str
    name: str
    since: str
    acknowledged: bool


class Status(msgspec.Struct, frozen=True):
    """The whole picture; ``bytes`` are those of all packs that are there.

    ``copies`` are the places that count for the snapshot that has the fewest, and ``copy_days`` within
    how many days they must have been proven.
    ``free`` is the room on the disk in bytes (-1: not known), of which ``min_free`` should stay.
    ``remarks`` are worth a line and fall short of nothing. ``vouched`` counts the snapshots by the lowest
    voucher of their files, ``unknown`` where the manifest that tells it is damaged.
    ``findings`` are the files and folders that this user may not read: what lies there is not known.
    ``unsigned`` counts the seals and manifests that none of the keys in ``trusted`` signed; no keys are
    there if no signatures are wanted.
    """

    snapshots: int
    packs: int
    bytes: int
    missing: int
    policy: Policy
    coverage: tuple[Coverage, ...]
    files_proven: int
    last_audit: str
    with_parity: int
    bytes_with_parity: int
    copies: int
    copy_days: int
    trusted: tuple[str, ...]
    unsigned: int
    pack_list: tuple[PackStatus, ...]
    places: tuple[PlaceState, ...]
    shortfalls: tuple[Shortfall, ...]
    smoke_tests: tuple[SmokeTested, ...] = ()
    audit: LastAudit | None = None
    plans: tuple[PlanStatus, ...] = ()
    lost_upstream: tuple[LostUpstream, ...] = ()
    free: int = -1
    min_free: int = 0
    remarks: tuple[Shortfall, ...] = ()
    vouched: dict[str, int] = {}
    findings: tuple[Finding, ...] = ()
