"""Which copies are real: for each place, whether it counts, and why it does not.

A copy counts while it lies on a disk of its own, and all its packs were proven there within the age
that the policy wants. What a journal tells is collected by ``PlaceHistory``; ``judge_copies`` adds what
is seen at the places now.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final, Literal, get_args

import msgspec

from archiver.archive import layout
from archiver.archive.advice import argv
from archiver.archive.check.proofs import Proofs, as_happened
from archiver.archive.clock import latest_time, proof_times
from archiver.archive.events import (
    Audited,
    Copied,
    CopyLost,
    DamageMet,
    PlaceSeen,
    PlacesSeen,
    ReceiptAccepted,
    Repaired,
)
from archiver.archive.place_look import Device, Look, Medium, look_at_all
from archiver.archive.places import Place, PlaceContents, copy_ends, own_place
from archiver.archive.receipts import ReceiptHistory, receipts_by_place
from archiver.digest import Blake3Hex
from archiver.text import utc_before

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from archiver.archive.advice import Argv
    from archiver.archive.archive import Archive
    from archiver.archive.events import Event
    from archiver.archive.policy import Policy
    from archiver.archive.receipts import PlaceReceipts
    from archiver.archive.seals import Snapshot

_DAY: Final = 86400
_PROVEN: Final = "stored"
"""The level from which on an audit proves bytes, and so what a copy proves that reads back."""

Standing = Literal[
    "here",
    "counts",
    "deleted",
    "incomplete",
    "damaged",
    "never-proven",
    "proof-old",
    "same-device",
    "claim",
]
"""How a place stands. Only ``here`` and ``counts`` count. A ``claim`` is a place that only a receipt tells
of which no trusted key signed."""

Presence = Literal["here", "there", "away", "no-answer", "not-looked"]
"""What a look at a place gave: ``away`` is what was not mounted, or has another medium in its drive;
``not-looked`` is on another machine, or has no path that is known."""


class PlaceState(msgspec.Struct, frozen=True):
    """One place, and whether it counts.

    Attributes:
        place: Its newest name.
        id: Its identity; ``""`` if it is known by name only.
        standing: Whether it counts, or the first reason why it does not.
        presence: Whether it was there just now.
        snapshots: How many of the snapshots that are held here lie there.
        last: When something was last copied to or from it; ``""`` if never.
        seen: When it was last known to be there, this look included.
        proven: When the pack there whose proof is oldest was proven; ``""`` if one never was.
        medium: What it lies on. ``unknown`` counts, and is to be shown.
        device: Words for the disk or server, for people.
        devices: Identities of the disks under it, or of its server and export.
        same_as: The name of the place that counts instead, if it lies on the same device.
        path: Where it can be reached on this machine; ``""`` if that is not known.
        missing: How many stored files are not there that should be, as far as was looked.
        receipt: When the newest receipt was written that counts for it; that of the claim, if it is one.
        signer: The id of the trusted key that signed it.
        aged: How many more snapshots its receipts tell of, whose proofs there are too old to count.
        troubled: How many are there and are damaged, not whole or not proven, as its receipts say.
        claimed: When a newer receipt was written, that no trusted key signed; ``""``: there is none.
    """

    place: str
    id: str
    standing: Standing
    presence: Presence
    snapshots: int
    last: str
    seen: str
    proven: str
    medium: Medium
    device: str = ""
    devices: tuple[str, ...] = ()
    same_as: str = ""
    path: str = ""
    missing: int = 0
    receipt: str = ""
    signer: str = ""
    aged: int = 0
    troubled: int = 0
    claimed: str = ""

    @property
    def counts(self) -> bool:
        """Whether copies there count."""
        return self.standing in {"here", "counts"}


class CopyState(msgspec.Struct, frozen=True):
    """All places, this archive's first, and which of them hold each snapshot.

    ``of`` is: id of a snapshot -> indexes into ``places``, whether these count or not. ``days`` is the
    age within which a place must have been proven.
    """

    places: tuple[PlaceState, ...]
    of: dict[str, tuple[int, ...]]
    days: int

    def count(self, snapshot: str) -> int:
        """Return in how many places that count the snapshot lies; this archive is one."""
        return sum(self.places[place].counts for place in self.of.get(snapshot, ()))

    @property
    def fewest(self) -> int:
        """The count of the snapshot with the fewest copies; 1 if there are no snapshots."""
        return min(map(self.count, self.of), default=1)


class PlaceHistory:
    """What the events of a journal tell of places: to be fed by passing them through ``noted``."""

    def __init__(self, here: Place, now: str, root: str) -> None:
        self.here = here
        self.root = root
        """The archive's address, as advice names it."""
        self.now = now
        self._latest = latest_time(now)
        self._copy_events: list[tuple[str, Event]] = []
        self._proofs: dict[str, Proofs] = {}
        self._older: dict[str, dict[str, str]] = {}
        """Place -> snapshot -> when an event of an older writer said that it was copied."""
        self._seen: dict[str, str] = {}
        self._devices: dict[str, PlaceSeen] = {}
        self._last: dict[str, str] = {}
        self._receipts = ReceiptHistory()

    def noted(self, events: Iterable[tuple[str, Event]]) -> Iterator[tuple[str, Event]]:
        """Yield the same events (oldest first), once each was noted."""
        listed = list(events)
        times = proof_times(listed)
        for digest, event in as_happened(listed):
            if isinstance(event.detail, Copied | CopyLost):
                self._copy_events.append((digest, event))
            time = times[digest]
            time = min(time, self.now) if time <= self._latest else time
            if time <= self.now or not isinstance(event.detail, ReceiptAccepted):
                self._receipts.note(digest, event, time)
            self._note(event, time)
            yield digest, event

    def copies(self) -> PlaceContents:
        """Return which snapshots lie where."""
        return PlaceContents(self._copy_events)

    # ---- taking in

    def _note(self, event: Event, time: str) -> None:
        match event.detail:
            case Copied() as copied:
                self._copied(copied, time)
            case CopyLost(place, identity):
                for name in {place, identity} - {""}:
                    for known in (self._proofs, self._older, self._seen, self._devices):
                        known.pop(name, None)
            case Audited() | DamageMet() | Repaired() as detail:
                place = detail.place or self.here.key
                self._see(place, time)
                self._proofs.setdefault(place, Proofs()).add(detail, time, self.now)
            case PlacesSeen(places):
                for seen in places:
                    self._see(seen.id or seen.place, time)
                    self._devices[seen.id or seen.place] = seen

    def _copied(self, copied: Copied, time: str) -> None:
        for place in copy_ends(copied):
            name = place.key
            self._see(name, time)
            self._last[name] = time
            if time > self.now:
                continue
            if isinstance(copied.packs, msgspec.UnsetType):  # an older writer's
                known = self._older.setdefault(name, {})
                known |= dict.fromkeys(copied.snapshots, time)
            else:
                proofs = self._proofs.setdefault(name, Proofs())
                proofs.add_proven(time, _PROVEN, copied.packs, ())

    def _see(self, place: str, time: str) -> None:
        if time <= self.now:
            self._seen[place] = max(time, self._seen.get(place, ""))

    def weigh_receipts(
        self, keys: Iterable[str], snapshots: Iterable[Snapshot]
    ) -> dict[str, PlaceReceipts]:
        """Return what receipts tell of other places than this one, by identity.

        What a receipt proves that one of these public ``keys`` signed is among the proofs from now on.
        """
        held = {snapshot.id: snapshot for snapshot in snapshots}
        receipts = receipts_by_place(self._receipts.receipts, keys, held)
        receipts.pop(self.here.id, None)
        for place, says in receipts.items():
            if says.signer:
                proofs = self._proofs.setdefault(place, Proofs())
                for snapshot, time in says.held.items():
                    packs = [pack for pack, _ in held[Blake3Hex(snapshot)].seal.packs]
                    proofs.add_proven(min(time, self.now), _PROVEN, packs, ())
        return receipts

    # ---- telling; ``names`` are all that events call a place

    def unnamed_source(self, copies: PlaceContents) -> str:
        """Return the name under which events of before there were identities tell of an archive itself.

        That is what was copied from first, where no event names the archive otherwise. ``""``: none.
        """
        for _, event in self._copy_events:
            copied = event.detail
            if isinstance(copied, Copied):
                name = copied.from_
                if copies.ends(copied) & {name} - copies.identities():
                    return name
        return ""

    def seen(self, names: Iterable[str]) -> str:
        """Return when a place was last known to be there; ``""`` if never."""
        return max((self._seen.get(name, "") for name in names), default="")

    def last_copy(self, names: Iterable[str]) -> str:
        """Return when something was last copied to or from it."""
        return max((self._last.get(name, "") for name in names), default="")

    def device(self, names: Iterable[str]) -> PlaceSeen | None:
        """Return where and on what it lay when it was last there; None if no event tells."""
        known = [self._devices[name] for name in names if name in self._devices]
        return known[0] if known else None

    def damaged(self, names: Iterable[str], packs: Iterable[str]) -> bool:
        """Return whether some of its packs were found damaged, and not whole since."""
        proofs = [self._proofs[name] for name in names if name in self._proofs]
        return any(proof.damaged(pack) for proof in proofs for pack in packs)

    def proven(self, names: Iterable[str], snapshots: Iterable[Snapshot]) -> str:
        """Return when the pack of these snapshots was proven there whose proof is oldest; ``""``: never."""
        return min(self.pack_proofs(names, snapshots).values(), default="")

    def pack_proofs(self, names: Iterable[str], snapshots: Iterable[Snapshot]) -> dict[str, str]:
        """Return pack -> when its bytes were last proven there, ``""`` if never, of these snapshots."""
        names = list(names)
        proofs = [self._proofs[name] for name in names if name in self._proofs]
        older = [self._older[name] for name in names if name in self._older]
        packs: dict[str, str] = {}
        for snapshot in snapshots:
            copied = max((times.get(snapshot.id, "") for times in older), default="")
            for pack, _ in snapshot.seal.packs:
                packs[pack] = max(packs.get(pack, ""), copied)
        return {
            pack: max(time, *(proof.pack(pack, _PROVEN) for proof in proofs), "")
            for pack, time in packs.items()
        }


def judge_copies(
    archive: Archive,
    history: PlaceHistory,
    snapshots: list[Snapshot],
    policy: Policy,
    *,
    looks: Mapping[str, Look] | None = None,
) -> CopyState:
    """Say for every place whether its copies count.

    ``looks`` are what was seen at paths of this machine; None: every place whose path is known is
    looked at now, which takes no longer than ``place_look.LOOK_SECONDS`` or so.
    """
    return _Judge(archive, history, snapshots, policy).judge(looks)


def own_history(archive: Archive, now: str) -> PlaceHistory:
    """Return what the journal of an archive tells of places."""
    history = PlaceHistory(own_place(archive), now, archive.store.address)
    for _ in history.noted(archive.standing_events()):
        pass
    return history


class _Judge:
    """Judges the places of one archive, each known by its identity or else its name."""

    def __init__(
        self, archive: Archive, history: PlaceHistory, snapshots: list[Snapshot], policy: Policy
    ) -> None:
        self._archive = archive
        self._history = history
        self._copies = history.copies()
        self._snapshots: dict[str, Snapshot] = {snapshot.id: snapshot for snapshot in snapshots}
        self._days = policy.copy_age_days
        self._since = utc_before(self._days * _DAY)
        self._here = self._copies.key(history.here)
        self._held = {
            place: [self._snapshots[key] for key in sorted(ids) if key in self._snapshots]
            for place, ids in self._copies.places().items()
        }
        if self._here not in self._held:
            self._held.pop(history.unnamed_source(self._copies), None)
        self._by_receipt = history.weigh_receipts(policy.keys, snapshots)
        self._receipts_only = self._by_receipt.keys() - self._held.keys()
        """Places that nothing but receipts tells of."""
        self._aged: dict[str, int] = {}
        for place, receipts in self._by_receipt.items():
            if receipts.signer or place in self._receipts_only:
                self._take_in(place, receipts)
        self._held[self._here] = list(snapshots)

    def _take_in(self, place: str, receipts: PlaceReceipts) -> None:
        """Hold what receipts say of a place; where only they tell of it, each snapshot by its own age."""
        held = {snapshot.id for snapshot in self._held.get(place, ())} - receipts.troubled.keys()
        listed = set(receipts.held)
        if place in self._receipts_only:
            fresh = {key for key, time in receipts.held.items() if time >= self._since}
            self._aged[place] = len(listed - fresh) if fresh else 0
            listed = fresh or listed
        self._held[place] = [self._snapshots[key] for key in sorted(held | listed)]

    def judge(self, looks: Mapping[str, Look] | None) -> CopyState:
        """Return the state of all places: this one, those that count, the others; each by name."""
        paths = {place: self._path(place) for place in self._held}
        if looks is None:
            # This archive first, then what was seen last.
            order = sorted(
                paths, key=lambda key: self._history.seen(self._names(key)), reverse=True
            )
            order.sort(key=lambda key: key != self._here)
            looks = look_at_all({paths[key]: self._files(key) for key in order if paths[key]})
        states = {key: self._state(key, path, looks.get(path)) for key, path in paths.items()}
        # One device counts once: of several places on it, the one that was proven last.
        counted = [states[self._here]]
        for place in sorted(states, key=lambda key: (states[key].proven, key), reverse=True):
            state = states[place]
            if state.standing == "counts":
                same = next(
                    (rival for rival in counted if set(rival.devices) & set(state.devices)), None
                )
                if same is None:
                    counted.append(state)
                else:
                    states[place] = msgspec.structs.replace(
                        state, standing="same-device", same_as=same.place
                    )

        def rank(place: str) -> tuple[bool, bool, str, str]:
            state = states[place]
            return state.standing != "here", not state.counts, state.place, place

        order = sorted(states, key=rank)
        of: dict[str, list[int]] = {key: [] for key in self._snapshots}
        for at, place in enumerate(order):
            for snapshot in self._held[place]:
                of[snapshot.id].append(at)
        ordered = tuple(states[key] for key in order)
        return CopyState(ordered, {key: tuple(indexes) for key, indexes in of.items()}, self._days)

    def _names(self, place: str) -> list[str]:
        """Return all that events call a place, its identity first."""
        return [place, *self._copies.names(place)]

    def _path(self, place: str) -> str:
        """Return where the place is to be found on this machine; ``""`` if it is not known.

        What a receipt calls its place says nothing of this machine.
        """
        if place in self._receipts_only:
            return ""
        if place == self._here:
            folder = self._archive.store.folder
            return str(folder.path) if folder else ""
        known = self._history.device(self._names(place))
        for where in (known.where if known else "", self._copies.name(place)):
            host, colon, path = where.partition(":")
            if colon and path.startswith("/") and host == socket.gethostname():
                return path
        return ""

    def _files(self, place: str) -> Iterator[str]:
        """Yield the stored files that should lie at a place."""
        if place != self._here:
            for snapshot in self._held[place]:
                yield snapshot.name
            for pack in {pack for snapshot in self._held[place] for pack, _ in snapshot.seal.packs}:
                yield layout.pack_name(pack)

    def _state(self, place: str, path: str, look: Look | None) -> PlaceState:
        names = self._names(place)
        known = self._history.device(names)
        receipts = self._by_receipt.get(place)
        signer = receipts.signer if receipts else ""
        device = device_of(known) if known else Device()
        if receipts is not None and signer and known is None:
            device = receipts.newest.receipt.device
        presence = self._presence(place, look)
        if look is not None and presence in {"here", "there"}:
            device = look.device
        held = self._held[place]
        proven = self._history.proven(names, held)
        standing = self._standing(place, presence, look, device, proven)
        name = self._copies.name(place)
        if receipts is not None and place in self._receipts_only:
            name = receipts.newest.receipt.name
        here = presence == "here"
        now = self._history.now if presence in {"here", "there"} else ""
        return PlaceState(
            place=self._history.here.name if here and name == place else name,
            id=place if name != place else (self._history.here.id if here else ""),
            standing=standing,
            presence=presence,
            snapshots=len(held),
            last=self._history.last_copy(names),
            seen=max(
                now, self._history.seen(names), receipts.newest.seen if receipts and signer else ""
            ),
            proven=proven,
            medium=device.medium,
            device=device.label,
            devices=device.devices,
            path=path,
            missing=look.missing if look is not None and presence == "there" else 0,
            receipt=receipts.newest.receipt.time if receipts else "",
            signer=signer,
            aged=self._aged.get(place, 0),
            troubled=len(receipts.troubled) if receipts and signer else 0,
            claimed=receipts.claim.receipt.time if receipts and receipts.claim else "",
        )

    def _standing(
        self, place: str, presence: Presence, look: Look | None, device: Device, proven: str
    ) -> Standing:
        """Return whether the place counts, or the first reason why it does not."""
        held = self._held[place]
        packs = {pack for snapshot in held for pack, _ in snapshot.seal.packs}
        standing: Standing = "counts"
        if presence == "here":
            standing = "here"
        elif place in self._receipts_only and not self._by_receipt[place].signer:
            standing = "claim"
        elif (
            look is not None
            and look.answered
            and presence == "away"
            and not look.error
            and device.is_on(look.device)
        ):
            # Its disk is there, and it is not on it; a path that leads to another filesystem than it
            # lay on is just not mounted.
            standing = "deleted"
        elif look is not None and presence == "there" and look.missing:
            standing = "incomplete"
        elif self._history.damaged(self._names(place), packs):
            standing = "damaged"
        elif not proven and held:
            standing = "never-proven"
        elif proven < self._since and held:
            standing = "proof-old"
        return standing

    def _presence(self, place: str, look: Look | None) -> Presence:
        if place == self._here:
            return "here"
        if look is None:
            return "not-looked"
        if not look.answered:
            return "no-answer"
        if look.place:
            return "there" if look.place == place else "away"
        # An archive of an older version has no identity, and is known by its name.
        same = look.archive and place not in self._copies.identities()
        return "there" if same else "away"


def device_of(known: PlaceSeen) -> Device:
    """Return what a place lay on when an event recorded it."""
    medium: Medium = next((kind for kind in get_args(Medium) if kind == known.medium), "unknown")
    return Device(medium, known.devices, known.label, known.filesystem)


def remedy(root: str, state: PlaceState) -> tuple[Argv, ...]:
    """Return the commands that make a place of the archive in ``root`` count, one after the other."""
    to = state.path or "TO"
    copied = argv("copy", root, to)
    match state.standing:
        case "never-proven" | "proof-old" if state.receipt and not state.path:
            # Nobody here can go there: what is done there is told by the next receipt.
            written = argv("receipt write", "THERE", "--sign", "FILE")
            return argv("audit", "THERE"), written, argv("receipt accept", root, "receipt.json")
        case "never-proven" | "proof-old":
            return argv("audit", to), copied
        case "damaged":
            return argv("repair", to, "--from", root), copied
        case "incomplete":
            return (copied,)
        case "deleted" | "same-device" as standing:
            return (argv("copy", root, "--new", to if standing == "deleted" else "FOLDER"),)
        case _:
            return ()
