"""When what was last proven, as the journal's ``audited`` events tell (``docs/format.md``, 8)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from archiver.archive.fixity.level import LEVELS, proves
from archiver.archive.layout import event_of
from archiver.archive.place import told_lists
from archiver.errors import ArchiverError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from archiver.archive.journal import Journal
    from archiver.archive.policy import Level
    from archiver.archive.records import Event

EVENT: Final = "audited"


class Proof(NamedTuple):
    """When (``YYYY-MM-DDTHH:MM:SSZ``) and at which level something was proven."""

    time: str
    level: Level


class Proofs:
    """Pack -> when it was last proven at which level; snapshot -> when its files were."""

    def __init__(self) -> None:
        self._packs: dict[Level, dict[str, str]] = {level: {} for level in LEVELS}
        self._files: dict[str, str] = {}

    def add(self, time: str, level: Level, packs: Iterable[str], snapshots: Iterable[str]) -> None:
        """Note what one audit proved; the newest counts."""
        for known, names in ((self._packs[level], packs), (self._files, snapshots)):
            for name in names:
                known[name] = max(time, known.get(name, ""))

    def pack(self, pack: str, level: Level) -> str:
        """When a pack was last proven at this level or a deeper one; ``""`` if never."""
        deep = (times for one, times in self._packs.items() if proves(one, level))
        return max(times.get(pack, "") for times in deep)

    def last(self, pack: str) -> Proof | None:
        """A pack's newest proof, the deepest if two are as new; None if there is none."""
        found = [Proof(times[pack], one) for one, times in self._packs.items() if pack in times]
        return max(found, key=lambda one: (one.time, LEVELS.index(one.level)), default=None)

    def snapshot(self, snapshot: str) -> str:
        """When the files of a snapshot were last all made and hashed; ``""`` if never."""
        return self._files.get(snapshot, "")


def proofs_of(events: Iterable[tuple[str, Event]], now: str) -> Proofs:
    """What the journal's events (id and event) prove; one of a time after ``now`` proves nothing.

    A clock that ran ahead must not keep a pack from being looked at for years.
    """
    found = Proofs()
    for _, event in events:
        level = event.detail.get("level")
        if event.event == EVENT and level in LEVELS and event.time <= now:
            packs, snapshots = told_lists(event, "packs"), told_lists(event, "snapshots")
            found.add(event.time, level, packs, snapshots)
    return found


def readable_events(journal: Journal) -> Iterator[tuple[str, Event]]:
    """The events that can be read, with their ids, oldest first; an audit tells of the others."""
    for name in journal.names():
        try:
            event = journal.read(name)
        except ArchiverError:
            continue
        yield event_of(name) or "", event
