"""What a status tells."""

from __future__ import annotations

import msgspec

from archiver.archive.advice import Argv
from archiver.archive.copies import PlaceState
from archiver.archive.events import Sample, UpstreamChange
from archiver.archive.findings import Finding
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


class SmokeTestState(msgspec.Struct, frozen=True):
    """When a whole snapshot was last smoke-tested at this place, and when it last held; ``""``: never.

    Tests count that were to run every level up to ``generate``.
    """

    snapshot: str
    repository: str
    revision: str
    tried: str
    held: str


class Shortfall(msgspec.Struct, frozen=True, kw_only=True, tag_field="what"):
    """Something that is not as it is wanted; ``commands`` are to be run about it, in their order.

    Each kind has what its sentence is made of, and is told by its ``what``.
    """

    commands: tuple[Argv, ...]


class NothingHeld(Shortfall, frozen=True, tag="empty"):
    """The archive is empty."""


class MissingPacks(Shortfall, frozen=True, tag="missing"):
    """Packs that seals need are not there."""

    packs: int


class UnreadableSeals(Shortfall, frozen=True, tag="damage"):
    """Seals that are damaged."""

    seals: int


class DamagedByAudit(Shortfall, frozen=True, tag="damage"):
    """The newest audit of the whole archive, at ``time``, had findings.

    ``packs`` and ``files`` count what is damaged or missing by name; with neither, nothing is known to
    be, as where files could not be read.
    """

    time: str
    findings: int
    packs: int
    files: int


class DamagedFiles(Shortfall, frozen=True, tag="damage"):
    """What audits found damaged, and nothing has mended or found whole since."""

    packs: int
    files: int


class ContradictorySeals(Shortfall, frozen=True, tag="contradiction"):
    """Two seals of a commit give ``files`` of it other bytes, ``path`` for one; no voucher settles it."""

    snapshot: str
    files: int
    path: str


class WrongClock(Shortfall, frozen=True, tag="clock"):
    """The journal has come to the time ``latest``, and the clock says ``now``."""

    latest: str
    now: str


class PlanShortfall(Shortfall, frozen=True):
    """Entries of a plan, by their titles."""

    plan: str
    entries: tuple[str, ...]


class PlanMissing(PlanShortfall, frozen=True, tag="plan-missing"):
    """Of ``total`` entries these are not held; ``gone`` of them upstream does not have."""

    total: int
    gone: int


class PlanUnvouched(PlanShortfall, frozen=True, tag="plan-unvouched"):
    """They are held, and nobody vouched for some of their bytes."""


class PlanFailed(PlanShortfall, frozen=True, tag="plan-failed"):
    """They are held, and the last run failed for them."""


class PlanGone(PlanShortfall, frozen=True, tag="plan-gone"):
    """Upstream has it no more."""


class PlanRefused(PlanShortfall, frozen=True, tag="plan-refused"):
    """Upstream refuses access to it."""


class PlanLate(PlanShortfall, frozen=True, tag="plan-late"):
    """Upstream did not answer within ``max_age`` seconds; of the oldest since ``since`` or never."""

    max_age: int
    since: str


class NeverAudited(Shortfall, frozen=True, tag="audit"):
    """No audit ever proved anything of what is held here."""


class ProofsOld(Shortfall, frozen=True, tag="audit"):
    """Packs, of so many bytes, were not proven at ``level`` within ``days``."""

    packs: int
    bytes: int
    level: Level
    days: int


class NoParity(Shortfall, frozen=True, tag="parity"):
    """Files without a sidecar."""

    files: int


class FewCopies(Shortfall, frozen=True, tag="copies"):
    """Snapshots that lie in fewer than ``places`` that count."""

    snapshots: int
    places: int


class Unsigned(Shortfall, frozen=True, tag="signatures"):
    """Seals and manifests without a signature by a trusted key."""

    documents: int


class NoPolicy(Shortfall, frozen=True, tag="policy"):
    """A remark: nobody said what is wanted."""


class LowRoom(Shortfall, frozen=True, tag="room"):
    """A remark: so many bytes are free, and ``keep`` should stay so."""

    free: int
    keep: int


class UnfinishedFiles(Shortfall, frozen=True, tag="unfinished"):
    """A remark: what runs that died left, in bytes."""

    files: int
    bytes: int


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


class NotShownUpstream(Shortfall, frozen=True, tag="not-shown"):
    """A remark: upstream did not show a held repository on the last ``days`` on which it was asked.

    Whether it is gone, private, or shown again tomorrow is not known. ``status`` is the HTTP status.
    """

    repository: str
    days: int
    status: int


class ChangedUpstream(Shortfall, frozen=True, tag="upstream"):
    """A remark: upstream changed a held repository, or its branches, within the last days."""

    repository: str
    changes: tuple[UpstreamChange, ...]


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
    ``damaged_files`` are the names of stored files, packs among them, that are known to be damaged, or
    gone if they are no packs.
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
    smoke_tests: tuple[SmokeTestState, ...] = ()
    audit: LastAudit | None = None
    plans: tuple[PlanStatus, ...] = ()
    lost_upstream: tuple[LostUpstream, ...] = ()
    free: int = -1
    min_free: int = 0
    remarks: tuple[Shortfall, ...] = ()
    vouched: dict[str, int] = {}
    findings: tuple[Finding, ...] = ()
    damaged_files: tuple[str, ...] = ()

    @property
    def damaged(self) -> bool:
        """Whether something is known to be damaged or missing, whatever may not be read."""
        return any(
            isinstance(shortfall, MissingPacks | UnreadableSeals | DamagedFiles)
            or (isinstance(shortfall, DamagedByAudit) and bool(shortfall.packs or shortfall.files))
            for shortfall in self.shortfalls
        )
