"""When what was last proven, as the journal's ``audited`` events say (``docs/format.md``, annex A.7).

What a reader met damaged counts as what an audit found so.
"""

from __future__ import annotations

from graphlib import TopologicalSorter
from itertools import groupby
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from archiver.archive.clock import latest_time, proof_times
from archiver.archive.events import Audited, DamageMet, Repaired, Signed
from archiver.archive.layout import PARITY, event_of, pack_of, signature_name
from archiver.archive.policy import LEVELS, proves
from archiver.errors import ArchiverError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from archiver.archive.events import Event, SmokeTested
    from archiver.archive.journal import Journal
    from archiver.archive.places import Place
    from archiver.archive.policy import Level


_READ: Final[Level] = "content"
"""The level of an audit that finds what a reader met: an object that does not decode to its name."""


LISTED_MAX: Final = 10_000
"""Packs and snapshots that one event lists, which has at most 1 MiB,"""
_NAMED_MAX: Final = 1_000
"""and damaged files beside them, whose names are longer."""


class Proof(NamedTuple):
    """When (``YYYY-MM-DDTHH:MM:SSZ``) and at which level something was proven."""

    time: str
    level: Level


class Proofs:
    """Pack -> when it was last proven at which level; snapshot -> when its files were.

    Events are added in the order in which they happened: what was proven before a pack was found damaged
    counts no more.
    """

    def __init__(self) -> None:
        self._packs: dict[Level, dict[str, str]] = {level: {} for level in LEVELS}
        self._damaged: dict[Level, set[str]] = {level: set() for level in LEVELS}
        self._files: dict[str, str] = {}
        self.broken: frozenset[str] = frozenset()
        """Stored files, other than packs, that were found damaged or gone and not whole since."""

    def add_proven(
        self, time: str, level: Level, packs: Iterable[str], snapshots: Iterable[str]
    ) -> None:
        """Note what one audit proved; the newest counts."""
        for known, names in ((self._packs[level], packs), (self._files, snapshots)):
            for name in names:
                known[name] = max(time, known.get(name, ""))
        self._clear(packs, level)

    def _add_damaged(self, level: Level, packs: Iterable[str]) -> None:
        """Note the packs that an audit of this level found damaged, or somebody who read as deeply."""
        for pack in packs:
            self._damaged[level].add(pack)
            for times in self._packs.values():
                times.pop(pack, None)

    def _add_checked(self, checked: Iterable[str], damaged: Iterable[str]) -> None:
        """Note the files, other than packs, that an audit found damaged; what else it checked is whole."""
        parity = {name for name in self.broken if name.startswith(f"{PARITY}/")}
        unchecked = frozenset() if "documents" in checked else self.broken - parity
        unchecked |= frozenset() if "parity" in checked else parity
        self.broken = unchecked.union(damaged)

    def _add_repaired(self, files: Collection[str]) -> None:
        """Note the stored files that were brought back, or made anew."""
        self._clear([pack for pack in map(pack_of, files) if pack], LEVELS[-1])
        self.broken = self.broken.difference(files)

    def add(self, detail: Audited | DamageMet | Repaired | Signed, time: str, now: str) -> None:
        """Note what an event of this place proves as of ``time``; nothing if that is after ``now``."""
        match detail:
            case DamageMet():
                self._add_damaged(_READ, detail.packs)
            case Repaired(files):
                self._add_repaired(files)
            case Signed(key, documents):
                self._add_repaired({signature_name(digest, key) for digest in documents})
            case Audited():
                level = next((level for level in LEVELS if level == detail.level), None)
                if level is None:
                    return  # a newer version's
                self._add_damaged(level, detail.damaged_packs)
                self._add_checked(detail.checked, detail.damaged_files)
                if time <= now:
                    self.add_proven(time, level, detail.packs, detail.snapshots)

    def _clear(self, packs: Iterable[str], level: Level) -> None:
        for damaged_level, damaged in self._damaged.items():
            if proves(level, damaged_level):
                damaged.difference_update(packs)

    def damaged(self, pack: str) -> bool:
        """Return whether the pack was found damaged, and neither repaired nor proven as deeply since."""
        return any(pack in damaged for damaged in self._damaged.values())

    def pack(self, pack: str, level: Level) -> str:
        """Return when a pack was last proven at this level or a deeper one; ``""`` if never."""
        deep = (times for known, times in self._packs.items() if proves(known, level))
        return max(times.get(pack, "") for times in deep)

    def last(self, pack: str) -> Proof | None:
        """Return a pack's newest proof, the deepest if two are as new; None if there is none."""
        proofs = [
            Proof(times[pack], level) for level, times in self._packs.items() if pack in times
        ]
        return max(proofs, key=lambda proof: (proof.time, LEVELS.index(proof.level)), default=None)

    def snapshot(self, snapshot: str) -> str:
        """Return when the files of a snapshot were last all made and hashed; ``""`` if never."""
        return self._files.get(snapshot, "")


def proofs_of(events: Iterable[tuple[str, Event]], now: str, place: Place) -> Proofs:
    """Return what the journal's events (id and event, oldest first) prove of the bytes at ``place``.

    One of a time long after ``now`` proves nothing: a clock that ran ahead must not keep a pack from being
    looked at for years. One of a time just after it counts as of ``now``. What an audit read elsewhere says
    nothing of the bytes here.
    """
    proofs = Proofs()
    listed = list(events)
    times, latest = proof_times(listed), latest_time(now)
    for digest, event in as_happened(listed):
        time = times[digest]
        time = min(time, now) if time <= latest else time
        match event.detail:
            case Signed() as detail:
                proofs.add(detail, time, now)
            case Audited() | DamageMet() | Repaired() as detail if was_at(detail, place):
                proofs.add(detail, time, now)
    return proofs


def audited_parts(audited: Audited) -> Iterator[Audited]:
    """Yield an audit as it is journalled: what is more than fits into one event goes into further ones.

    What was counted and checked stands in the first. The files that are damaged follow it: what was checked
    and is not among them counts as whole.
    """
    packs, snapshots, files = audited.packs, audited.snapshots, audited.damaged_files
    while True:
        room = LISTED_MAX - len(packs[:LISTED_MAX])
        yield msgspec.structs.replace(
            audited,
            packs=packs[:LISTED_MAX],
            snapshots=snapshots[:room],
            damaged_files=files[:_NAMED_MAX],
        )
        packs, snapshots, files = packs[LISTED_MAX:], snapshots[room:], files[_NAMED_MAX:]
        if not (packs or snapshots or files):
            return
        audited = msgspec.structs.replace(audited, objects=0, checked=(), damaged_packs=())


def as_happened(events: Iterable[tuple[str, Event]]) -> Iterator[tuple[str, Event]]:
    """Return the events; of those of one second, each follows the ones that it was written after."""
    for _, group in groupby(events, key=lambda pair: pair[1].time):
        second = dict(group)
        if len(second) == 1:
            yield from second.items()
            continue
        before = {
            digest: [earlier for earlier in event.after if earlier in second]
            for digest, event in second.items()
        }
        # An id is a digest of what it lists, so that no two can list each other.
        yield from ((digest, second[digest]) for digest in TopologicalSorter(before).static_order())


def was_at(detail: Audited | DamageMet | Repaired | SmokeTested, place: Place) -> bool:
    """Return whether it tells of the bytes at this place; what names none is taken to."""
    return not detail.place or place.is_named(detail.place)


def readable_events(
    journal: Journal, on_fault: Callable[[str, ArchiverError], None] | None = None
) -> Iterator[tuple[str, Event]]:
    """Return the events that can be read, with their ids, oldest first; the others go to ``on_fault``.

    Each comes after those that it names: names alone would follow a clock that went wrong. One of a time
    that a confirmed clock says had not come has the time that it may claim.
    """
    readable: dict[str, Event] = {}
    for name in journal.names():
        try:
            readable[event_of(name) or ""] = journal.known(name)
        except ArchiverError as error:
            if on_fault is not None:
                on_fault(name, error)
    return _as_of_proof_times(list(journal.in_order(readable)))


def standing_proofs(
    journal: Journal, on_fault: Callable[[str, ArchiverError], None] | None = None
) -> Iterator[tuple[str, Event]]:
    """Return the same of the events that stand: what these prove is what all of them do."""
    return _as_of_proof_times(journal.standing(on_fault or _pass_over))


def _pass_over(_name: str, _error: ArchiverError) -> None:
    """Nobody is told."""


def _as_of_proof_times(ordered: list[tuple[str, Event]]) -> Iterator[tuple[str, Event]]:
    times = proof_times(ordered)
    for digest, event in ordered:
        same = event.time == times[digest]
        yield digest, event if same else msgspec.structs.replace(event, time=times[digest])
