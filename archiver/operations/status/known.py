"""What seals, names and journal tell of an archive: gathered once, judged elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from archiver.archive import layout
from archiver.archive.check.heads import Chain
from archiver.archive.check.history import proofs_of, readable_events, was_at
from archiver.archive.copies import PlaceHistory
from archiver.archive.events import Audited, Repaired
from archiver.archive.journal import policy_of
from archiver.archive.places import own_place
from archiver.archive.plans import Plans, vouched_in
from archiver.archive.policy import LEVELS, Policy
from archiver.errors import UnreadableError
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


class Known:
    """Everything that a status is made of."""

    def __init__(self, archive: Archive, now: str) -> None:
        self.damaged_seals: list[str] = []
        self._denied: dict[str, str] = {}
        self.snapshots = list(archive.snapshots(self._damaged))
        self._others: list[tuple[str, Event]] = []
        self._chain = Chain()
        self._turns: dict[str, Event] = {}
        self.last_audit = ""
        self.audited: LastAudit | None = None
        self._place = own_place(archive)
        self._store = archive.store
        self.places = PlaceHistory(self._place, now, archive.store.address)
        events = self.places.noted(
            self._sorted(readable_events(archive.journal, self._damaged_event))
        )
        self.proofs = proofs_of(events, now, self._place)
        self.policy = policy_of(self._others)
        self._plans = Plans(self._others, self._place)
        self.upstreams = self._plans.upstreams
        self.min_free = max((plan.min_free for plan in self._plans.active), default=0) or MIN_FREE
        self.plans = tuple(
            self._plans.judge(plan, self.snapshots, now, vouched_in(archive))
            for plan in self._plans.active
        )
        self.since = utc_before(self.policy.audit_days * _DAY) if self.policy.audit_days else ""
        self.packs = list(self._packs(archive))

    def _damaged(self, name: str, error: DamageError) -> None:
        if isinstance(error, UnreadableError):
            self._denied[name] = error.message
        else:
            self.damaged_seals.append(name)

    def _damaged_event(self, name: str, error: ArchiverError) -> None:
        if isinstance(error, UnreadableError):
            self._denied[name] = error.message

    @property
    def unreadable(self) -> dict[str, str]:
        """The folders and files that this user may not read, by name, each with the reason."""
        folders = self._store.passed_over()
        told = {one: f"{one} cannot be listed: {why}." for one, why in folders.items()}
        return dict(sorted((told | self._denied).items()))

    @property
    def missing(self) -> list[PackStatus]:
        """The packs that seals need and that are not there, as far as this user may look."""
        return [one for one in self.packs if not one.there and not self._may_be_there(one.pack)]

    def _may_be_there(self, pack: str) -> bool:
        *folders, _ = layout.pack_name(pack).split("/")
        passed = self._store.passed_over()
        return any("/".join(folders[: end + 1]) in passed for end in range(len(folders)))

    def _sorted(self, events: Iterator[tuple[str, Event]]) -> Iterator[tuple[str, Event]]:
        """Yield the events; what is kept of audits is only what they prove."""
        for digest, event in events:
            self._chain.add(digest, event)
            if event.type is not Audited:
                self._others.append((digest, event))
            match event.detail:
                case Audited() | Repaired() as detail if was_at(detail, self._place):
                    self._take_turn(digest, event, detail)
            yield digest, event

    def _take_turn(self, digest: str, event: Event, detail: Audited | Repaired) -> None:
        """Note what was proven or brought back here, if nothing later is known."""
        if isinstance(detail, Audited):
            self.last_audit, self.audited = event.time, _last_audit(event, detail)
        if isinstance(detail, Repaired) or not event.repository:
            if any(turn.time < event.time for turn in self._turns.values()):
                self._turns.clear()
            self._turns[digest] = event

    @property
    def audit(self) -> Event | None:
        """The newest audit of the whole archive, unless something was repaired since."""
        # Within a second, the later one is the one that stands on the other.
        before = {one: set(self._chain.vouched([one])) - {one} for one in self._turns}
        newest = [
            one for one in self._turns if not any(one in listed for listed in before.values())
        ]
        found = self._turns[newest[0]] if newest else None
        return found if found is not None and found.type is Audited else None

    @property
    def broken(self) -> list[str]:
        """The packs that an audit found damaged, and that are there as they were since."""
        there = (one.pack for one in self.packs if one.there and one.needed)
        return [pack for pack in there if self.proofs.damaged(pack)]

    @property
    def broken_files(self) -> list[str]:
        """Other files that an audit found damaged or gone, less the companions that were removed since."""
        beside = tuple(f"{one}/" for one in (layout.PARITY, layout.SIGNATURES))
        found = sorted(self.proofs.broken)
        return [one for one in found if not one.startswith(beside) or self._store.stat(one)]

    def _packs(self, archive: Archive) -> Iterator[PackStatus]:
        sizes = {pack: size for one in self.snapshots for pack, size in one.seal.packs}
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

    def coverage(self) -> Iterator[Coverage]:
        """Yield level by level."""
        for level in LEVELS:
            there = [one for one in self.packs if one.there]
            proven = {one.pack: self.proofs.pack(one.pack, level) for one in there}
            ever = [one for one in there if proven[one.pack]]
            recent = [one for one in ever if proven[one.pack] >= self.since]
            yield Coverage(
                level=level,
                packs=len(ever),
                bytes=sum(one.size for one in ever),
                recent_packs=len(recent),
                recent_bytes=sum(one.size for one in recent),
                never=len(there) - len(ever),
                oldest=min((proven[one.pack] for one in ever), default=""),
            )

    @property
    def never_proven(self) -> bool:
        """Whether no audit ever proved anything of what is held here, nor found it damaged."""
        read = (self.proofs.pack(one.pack, "stored") for one in self.packs if one.needed)
        return bool(self.snapshots) and not any(read) and not self.broken

    @property
    def wants(self) -> bool:
        """Whether its owner ever said what is wanted of the archive."""
        return any(event.type is Policy for _, event in self._others)

    @property
    def files_proven(self) -> int:
        """How many snapshots had all their files made, and have all their packs."""
        there = {one.pack for one in self.packs if one.there}
        return sum(
            bool(self.proofs.snapshot(one.id)) and there.issuperset(dict(one.seal.packs))
            for one in self.snapshots
        )


def _last_audit(event: Event, said: Audited) -> LastAudit:
    """Return what an audit's event says of it, less the lists of what was proven."""
    return LastAudit(
        time=event.time,
        level=said.level,
        repository=event.repository,
        revision=event.revision,
        damaged=said.damaged,
        complete=None if isinstance(said.complete, msgspec.UnsetType) else said.complete,
        sample=None if isinstance(said.sample, msgspec.UnsetType) else said.sample,
        heads=0 if isinstance(said.heads, msgspec.UnsetType) else len(said.heads),
        keys=0 if isinstance(said.keys, msgspec.UnsetType) else len(said.keys),
    )
