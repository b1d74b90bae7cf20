"""The journal: append-only events, each of which names those before it (``docs/format.md``, 8).

Several processes may append at once: then there are several newest events, and the next one names
them all. Journals of two archives are merged by copying files.
"""

from __future__ import annotations

import heapq
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import msgspec

from archiver.archive import layout
from archiver.archive.clock import is_confirmation
from archiver.archive.document_cache import DocumentCache
from archiver.archive.events import Event, Malformed, Sighted, parse_event
from archiver.archive.journal_summary import (
    JournalSummary,
    StandingNames,
    moment,
    names_digest,
    stamp_of,
)
from archiver.archive.policy import Policy
from archiver.archive.records import canonical, record_digest
from archiver.archive.standing_events import standing_events
from archiver.digest import Blake3Hex, blake3_hex
from archiver.errors import ArchiverError, DamageError
from archiver.text import utc_now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from archiver.errors import OnDamage
    from archiver.storage.store import Store

EVENT_MAX: Final = 1 << 20
"""An event's file has at most this many bytes."""
_SIGHTED: Final = b'"event":"sighted"'
"""What such an event has in it, in canonical JSON."""
_RECENT: Final = 256
"""Before an event is appended so many of the newest are read. What lies further back has been named
by one of them, unless it was copied in from another archive: whoever copies reads them all."""


class Journal:
    """The events of one archive.

    ``known`` are those that this process has read, ``summary`` is what processes before it have.
    """

    def __init__(
        self,
        store: Store,
        known: DocumentCache[Event] | None = None,
        summary: JournalSummary | None = None,
    ) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._after: dict[str, tuple[str, ...]] = {}
        self._known = known or DocumentCache()
        self._summary = summary or JournalSummary()
        self._names: tuple[list[str], list[str]] = [], []
        """Files in the journal, and which of them are events."""
        self._order: tuple[list[str], list[str]] = [], []
        """Ids in the order of their names, and the same ones each after those that it names."""
        self._standing: tuple[list[str], list[tuple[str, Event]]] = [], []
        """Names, and which events of these names stand."""
        self._older: tuple[list[str], list[tuple[str, Event]]] = [], []
        """Likewise, of the older ones that a process before has looked through."""

    def names(self) -> list[str]:
        """Return the names of all events, oldest first."""
        listed = list(self._store.list(layout.JOURNAL))
        known, names = self._names
        if listed != known:
            names = [name for name in listed if layout.event_of(name)]
            self._names = listed, names
        return list(names)

    def read(self, name: str) -> Event:
        """Return one event; raise DamageError if it is not the one of its name, or vanished.

        It is read from its own file, whatever is known of it.
        """
        return self._read(name)[0]

    def known(self, name: str) -> Event:
        """Return one event, as ``read`` does; one that this process has read before is not read again.

        Nor is one that an earlier process has read, if its file is still as it was then.
        """
        return self._known.get(name, self._recalled)

    def _recalled(self, name: str) -> tuple[Event, int]:
        now, stamp = moment(), stamp_of(self._store, name)
        data = self._summary.recall(self._store, name, stamp) if stamp else None
        if data is not None:
            return parse_event(data, f"The event {name}"), len(data)
        event, data = self._read(name)
        if stamp:
            self._summary.add(name, stamp, data, now)
        return event, len(data)

    def _read(self, name: str) -> tuple[Event, bytes]:
        try:
            data = self._store.get(name, EVENT_MAX)
        except FileNotFoundError:
            raise DamageError(
                f"The event {name} vanished while it was being read.", path=name
            ) from None
        if blake3_hex(data) != layout.event_of(name):
            raise DamageError(
                f"The event {name} is damaged: its bytes have another digest.", path=name
            )
        return parse_event(data, f"The event {name}"), data

    def events(self, on_damage: OnDamage) -> Iterator[tuple[str, Event]]:
        """Yield every event with its id, oldest first; damaged ones go to ``on_damage``.

        An event comes after all that it names, also within a second and where a clock went wrong. Those
        that this process has read before are not read again.
        """
        read: dict[str, Event] = {}
        for name in self.names():
            try:
                read[layout.event_of(name) or ""] = self.known(name)
            except DamageError as error:
                on_damage(name, error)
        yield from self.in_order(read)

    def in_order(self, events: dict[str, Event]) -> Iterator[tuple[str, Event]]:
        """Yield events as the function ``in_order`` does, which is not asked anew about the same ones."""
        ids, (known, order) = list(events), self._order
        if ids != known:
            order = [digest for digest, _ in in_order(events)]
            self._order = ids, order
        return ((digest, events[digest]) for digest in order)

    def standing(self, on_fault: Callable[[str, ArchiverError], None]) -> list[tuple[str, Event]]:
        """Return the events that stand (`archiver.archive.standing_events`), as ``events`` does.

        And some that do not: all of a short journal, and the newest of a long one. What cannot be read goes
        to ``on_fault``, as far as it has to be read.
        """
        names = self.names()
        known, standing = self._standing
        if names != known:
            faults: dict[str, ArchiverError] = {}
            standing = self._standing_of(names, faults)
            for name, error in faults.items():
                on_fault(name, error)
            if not faults:
                self._standing = names, standing
        return list(standing)

    def _standing_of(
        self, names: list[str], faults: dict[str, ArchiverError]
    ) -> list[tuple[str, Event]]:
        older, standing = self._older_standing(names)
        newest = self._readable(names[len(older) :], faults)
        if older and not all(map(_tells_of_its_time, newest)):
            # It tells of times of before, and so of events that are not looked at here.
            newest, standing = self._readable(names, faults), []
        return [*standing, *in_order(dict(map(_with_id, newest)))]

    def _older_standing(self, names: list[str]) -> tuple[list[str], list[tuple[str, Event]]]:
        """Return the names of the older events that were looked through, and those of them that stand."""
        older, _ = self._older
        if older and names[: len(older)] == older:
            return self._older
        said = self._summary.standing(self._store)
        if said is None:
            return [], []
        older = names[: said.older]
        # With a clock that was set back some of them are to come; somebody else's file may say anything.
        if (
            older
            and said.is_of(names)
            and layout.event_moment(older[-1])
            <= layout.event_moment(layout.event_name(utc_now(), ""))
            and set(older).issuperset(said.names)
        ):
            faults: dict[str, ArchiverError] = {}
            readable = self._readable(said.names, faults)
            if not faults:
                self._older = older, list(map(_with_id, readable))
                return self._older
        self._summary.distrust_standing(self._store)
        return [], []

    def doubt_standing(self) -> None:
        """Look through all events again, whatever a process before said, and leave that to later ones."""
        self._summary.distrust_standing(self._store, renew=True)
        self._older = self._standing = [], []

    def _readable(
        self, names: Iterable[str], faults: dict[str, ArchiverError]
    ) -> list[tuple[str, Event]]:
        """Return the events of these names, by name; those that cannot be read are ``faults``."""
        read: list[tuple[str, Event]] = []
        for name in names:
            try:
                read.append((name, self.known(name)))
            except ArchiverError as error:
                faults[name] = error
        return read

    def newest_sighting(self, repository: str, branch: str) -> Event | None:
        """Return the newest event in which upstream was seen to point a branch somewhere; None if none was.

        By the names of the events, the newest first, and no further than there: a journal may have a
        hundred thousand. What a cache said does not count, and events that cannot be read are passed over.
        """
        for name in reversed(self.names()):
            event = self._known.kept(name)
            try:
                if event is None:
                    data = self._store.get(name, EVENT_MAX)
                    if _SIGHTED not in data or blake3_hex(data) != layout.event_of(name):
                        continue
                    event = parse_event(data, name)
            except (ArchiverError, FileNotFoundError):
                continue
            seen = event.detail
            if (
                isinstance(seen, Sighted)
                and not seen.hearsay
                and seen.name == branch
                and event.repository.casefold() == repository.casefold()
            ):
                return event
        return None

    def append(self, event: Event, *, whole: bool = False) -> Blake3Hex:
        """Append an event after the newest ones; return its id.

        With ``whole`` every event is read to find those that no other names, not only recent ones.
        Raise ArchiverError if nothing can be written.
        """
        with self._lock:
            names = self.names()
            after = self._heads(names if whole else names[-_RECENT:])
            # A run that died may have published one of them and not synced its folder.
            self._store.barrier(name for name in names if layout.event_of(name) in after)
            event = msgspec.structs.replace(event, after=after)
            digest = record_digest(event)
            self._store.put_new(layout.event_name(event.time, digest), canonical(event))
            self._after[digest] = event.after
        self.write_summary()
        return digest

    def write_summary(self) -> None:
        """Leave to later processes what this one read, where that is worth it; never an error."""
        if self._summary.is_due(self._store):
            with suppress(ArchiverError):
                names = self.names()
                self._summary.write(self._store, names, self._standing_names(names))

    def _standing_names(self, names: list[str]) -> StandingNames | None:
        """Return which of all but the newest events stand; None where that is not to be left to others."""
        older, standing = self._older_standing(names)
        faults: dict[str, ArchiverError] = {}
        new = self._readable(names[len(older) : max(len(names) - _RECENT, 0)], faults)
        if faults or not all(map(_tells_of_its_time, new)):
            return None
        count = _boundary(names, len(older), new)
        if count <= len(older):
            return None
        new = new[: count - len(older)]
        known = [*standing, *in_order(dict(map(_with_id, new)))]
        by_id = {layout.event_of(name) or "": name for name in names[:count]}
        stand = tuple(by_id[digest] for digest, _ in standing_events(known))
        return StandingNames(count, names_digest(names[:count]), stand)

    def heads(self) -> tuple[str, ...]:
        """Return the ids of the events that no other names: together they vouch for the whole journal."""
        with self._lock:
            return self._heads(self.names())

    def _heads(self, names: list[str]) -> tuple[str, ...]:
        """Return the ids of those of ``names`` that no other of them names."""
        ids = {name: layout.event_of(name) or "" for name in names}
        for name, digest in ids.items():
            if digest not in self._after:
                self._after[digest] = self._named_by(name)
        named = {before for digest in ids.values() for before in self._after[digest]}
        return tuple(sorted(set(ids.values()) - named))

    def _named_by(self, name: str) -> tuple[str, ...]:
        try:
            return self.known(name).after
        except DamageError:
            return ()  # an audit says so; the next event names it all the same


def _with_id(named: tuple[str, Event]) -> tuple[str, Event]:
    """Return an event with its id instead of its name."""
    name, event = named
    return layout.event_of(name) or "", event


def _tells_of_its_time(named: tuple[str, Event]) -> bool:
    """Return whether an event with its name is of the time in that, and tells of no time before."""
    name, event = named
    own = layout.event_name(event.time, layout.event_of(name) or "")
    return name == own and not is_confirmation(event)


def _boundary(names: list[str], first: int, events: list[tuple[str, Event]]) -> int:
    """Return how many of a journal's events, by name, can be looked at without those that come after.

    ``events`` are those from number ``first`` on that may be among them. It lies between two seconds, for
    within one the order is told by what each event names; and none before it names one after it, as where
    a clock was set back. 0 if one names an event that is not there.
    """
    at = {layout.event_of(name): number for number, name in enumerate(names)}
    names_up_to = []
    for _, event in events:
        if any(before not in at for before in event.after):
            return 0
        names_up_to.append(max((at[before] for before in event.after), default=-1))
    end = first + len(events)
    while end > first:
        inside = zip(range(first, end), names_up_to, strict=False)
        ahead = next((number for number, last in inside if last >= end), None)
        if ahead is not None:
            end = ahead
        elif layout.event_moment(names[end - 1]) == layout.event_moment(names[end]):
            end -= 1
        else:
            return end
    return 0


def in_order(events: dict[str, Event]) -> Iterator[tuple[str, Event]]:
    """Yield events, given by id in the order of their names: each after those that it names."""
    position = {digest: number for number, digest in enumerate(events)}
    waits = {
        digest: sum(before in position for before in event.after)
        for digest, event in events.items()
    }
    followers: dict[str, list[str]] = {}
    for digest, event in events.items():
        for before in event.after:
            followers.setdefault(before, []).append(digest)
    ready = [(position[digest], digest) for digest, count in waits.items() if not count]
    heapq.heapify(ready)
    while ready:
        _, digest = heapq.heappop(ready)
        yield digest, events[digest]
        for follower in followers.get(digest, ()):
            waits[follower] -= 1
            if not waits[follower]:
                heapq.heappush(ready, (position[follower], follower))


def merged(*journals: Iterable[tuple[str, Event]]) -> Iterator[tuple[str, Event]]:
    """Yield the events (id and event) of several journals as one journal has them that holds them all."""
    events = {digest: event for journal in journals for digest, event in journal}
    yield from in_order(dict(sorted(events.items(), key=lambda entry: (entry[1].time, entry[0]))))


def policy_of(events: Iterable[tuple[str, Event]]) -> Policy:
    """Return the policy that a journal's events (id and event, oldest first) add up to.

    The newest counts, but append-only is for good. Raise DamageError if one cannot be understood.
    """
    policy, append_only = Policy(), False
    for digest, event in events:
        match event.detail:
            case Policy() as detail:
                policy, append_only = detail, append_only or detail.append_only
            case Malformed(kind, reason) if kind is Policy:
                raise DamageError(f"The policy in event {digest} cannot be read: {reason}.")
    return msgspec.structs.replace(policy, append_only=append_only)
