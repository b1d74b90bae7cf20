"""The inventory: what seals, names and journal say of an archive, read once.

``run`` judges it. No pack is opened: which packs are there is known by their names, and whether they are
whole by what audits have proven.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from archiver.archive import layout
from archiver.archive.chain import Chain
from archiver.archive.check.proofs import proofs_of, standing_proofs, was_at
from archiver.archive.copies import PlaceHistory
from archiver.archive.events import Audited, Repaired
from archiver.archive.journal import policy_of
from archiver.archive.places import own_place
from archiver.archive.plans import Plans, vouched_in
from archiver.archive.policy import LEVELS, Policy
from archiver.archive.watch import UpstreamHistory
from archiver.errors import NotUnderstoodError, UnreadableError
from archiver.operations.status.report import Coverage, LastAudit, PackStatus
from archiver.text import utc_before

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.archive.archive import Archive
    from archiver.archive.events import Event
    from archiver.errors import ArchiverError, DamageError

_DAY: Final = 86400
MIN_FREE: Final = 1 << 30
"""The room, in bytes, below which a disk is called nearly full: what ``sync`` keeps free by default."""


class Inventory:
    """Everything that a status is made of."""

    def __init__(self, archive: Archive, now: str) -> None:
        self._store = archive.store
        self._place = own_place(archive)
        self._unreadable: dict[str, str] = {}
        self.damaged_seals: list[str] = []
        self.not_understood: dict[str, str] = {}
        """Seals that a newer version wrote, each with what it announces."""
        self.snapshots = list(archive.snapshots(self._damaged_seal))
        # The journal is read once, through all who take something from it.
        self._chain = Chain()
        self._besides_audits: list[tuple[str, Event]] = []
        # Audits of the whole archive, and repairs, by id: those of the last second that had one.
        self._newest: dict[str, Event] = {}
        self.last_audit: LastAudit | None = None
        self.places = PlaceHistory(self._place, now, archive.store.address)
        events = standing_proofs(archive.journal, self._note_unreadable)
        self.proofs = proofs_of(self.places.noted(self._noted(events)), now, self._place)
        self.policy = policy_of(self._besides_audits)
        self.since = utc_before(self.policy.audit_days * _DAY) if self.policy.audit_days else ""
        plans = Plans(self._besides_audits, self._place)
        self.upstreams = plans.upstreams
        self.upstream = UpstreamHistory(self._besides_audits)
        self.min_free = max((plan.min_free for plan in plans.active), default=0) or MIN_FREE
        self.plans = tuple(
            plans.judge(plan, self.snapshots, now, vouched_in(archive)) for plan in plans.active
        )
        self.packs = list(self._packs(archive))
        self.present = [pack for pack in self.packs if pack.there]

    # ---- reading

    def _damaged_seal(self, name: str, error: DamageError) -> None:
        if isinstance(error, UnreadableError):
            self._unreadable[name] = error.message
        elif isinstance(error, NotUnderstoodError):
            self.not_understood[name] = error.message
        else:
            self.damaged_seals.append(name)

    def _note_unreadable(self, name: str, error: ArchiverError) -> None:
        if isinstance(error, UnreadableError):
            self._unreadable[name] = error.message

    def _noted(self, events: Iterator[tuple[str, Event]]) -> Iterator[tuple[str, Event]]:
        """Yield the events; of audits, which may be many and long, only what they prove is kept."""
        for digest, event in events:
            self._chain.add(digest, event)
            if event.type is not Audited:
                self._besides_audits.append((digest, event))
            match event.detail:
                case Audited() | Repaired() as detail if was_at(detail, self._place):
                    if isinstance(detail, Audited):
                        self.last_audit = _last_audit(event, detail)
                    if isinstance(detail, Repaired) or not event.repository:
                        if any(earlier.time < event.time for earlier in self._newest.values()):
                            self._newest.clear()
                        self._newest[digest] = event
            yield digest, event

    def _packs(self, archive: Archive) -> Iterator[PackStatus]:
        sizes = {pack: size for snapshot in self.snapshots for pack, size in snapshot.seal.packs}
        there = dict.fromkeys(archive.packs())
        parity = set(archive.store.list(layout.PARITY))
        for pack in sorted({*sizes, *there}):
            size = sizes.get(pack)
            proof = self.proofs.last(pack)
            yield PackStatus(
                pack=pack,
                size=size or archive.store.stat(layout.pack_name(pack)) or 0,
                there=pack in there,
                needed=size is not None,
                proven=proof.time if proof else "",
                level=proof.level if proof else "",
                parity=layout.parity_name(pack) in parity,
            )

    # ---- what is there, what is missing, what is damaged

    @property
    def unreadable(self) -> dict[str, str]:
        """The folders and files that this user may not read, by name, each with the reason."""
        folders = {
            folder: f"{folder} cannot be listed: {reason}."
            for folder, reason in self._store.passed_over().items()
        }
        return dict(sorted((folders | self._unreadable).items()))

    @property
    def missing(self) -> list[PackStatus]:
        """The packs that seals need and that are not there, as far as this user may look."""
        unlisted = self._store.passed_over()

        def may_be_there(pack: str) -> bool:
            folder = layout.pack_name(pack).rpartition("/")[0]
            return folder in unlisted or layout.PACKS in unlisted

        return [pack for pack in self.packs if not pack.there and not may_be_there(pack.pack)]

    @property
    def damaged_packs(self) -> list[str]:
        """The packs that an audit found damaged, or a reader, and that are there as they were since."""
        return [
            pack.pack for pack in self.present if pack.needed and self.proofs.damaged(pack.pack)
        ]

    @property
    def damaged_files(self) -> list[str]:
        """Other files that an audit found damaged or gone, less the sidecars that were removed since."""
        sidecars = (f"{layout.PARITY}/", f"{layout.SIGNATURES}/")
        return [
            name
            for name in sorted(self.proofs.broken)
            if not name.startswith(sidecars) or self._store.stat(name)
        ]

    # ---- what was proven, and what is wanted

    @property
    def newest_audit(self) -> tuple[Event, Audited] | None:
        """The newest audit of the whole archive, unless something was repaired since."""
        # Within a second, the later one is the one that stands on the other.
        before = {digest: set(self._chain.vouched([digest])) - {digest} for digest in self._newest}
        latest = [
            event
            for digest, event in self._newest.items()
            if not any(digest in earlier for earlier in before.values())
        ]
        if latest and isinstance(detail := latest[0].detail, Audited):
            return latest[0], detail
        return None

    def coverage(self) -> Iterator[Coverage]:
        """Yield how much is proven, level by level."""
        for level in LEVELS:
            proven = {pack.pack: self.proofs.pack(pack.pack, level) for pack in self.present}
            ever = [pack for pack in self.present if proven[pack.pack]]
            recent = [pack for pack in ever if proven[pack.pack] >= self.since]
            yield Coverage(
                level=level,
                packs=len(ever),
                bytes=sum(pack.size for pack in ever),
                recent_packs=len(recent),
                recent_bytes=sum(pack.size for pack in recent),
                never=len(self.present) - len(ever),
                oldest=min((proven[pack.pack] for pack in ever), default=""),
            )

    @property
    def never_proven(self) -> bool:
        """Whether no audit ever proved anything of what is held here, nor found it damaged."""
        read = (self.proofs.pack(pack.pack, "stored") for pack in self.packs if pack.needed)
        return bool(self.snapshots) and not any(read) and not self.damaged_packs

    @property
    def files_proven(self) -> int:
        """How many snapshots had all their files made, and have all their packs."""
        there = {pack.pack for pack in self.present}
        return sum(
            bool(self.proofs.snapshot(snapshot.id)) and there.issuperset(dict(snapshot.seal.packs))
            for snapshot in self.snapshots
        )

    @property
    def has_policy(self) -> bool:
        """Whether its owner ever said what is wanted of the archive."""
        return any(event.type is Policy for _, event in self._besides_audits)


def _last_audit(event: Event, audited: Audited) -> LastAudit:
    """Return what an audit's event says of it, less the lists of what was proven."""
    return LastAudit(
        time=event.time,
        level=audited.level,
        repository=event.repository,
        revision=event.revision,
        damaged=audited.damaged,
        complete=None if isinstance(audited.complete, msgspec.UnsetType) else audited.complete,
        sample=None if isinstance(audited.sample, msgspec.UnsetType) else audited.sample,
        heads=0 if isinstance(audited.heads, msgspec.UnsetType) else len(audited.heads),
        keys=0 if isinstance(audited.keys, msgspec.UnsetType) else len(audited.keys),
    )
