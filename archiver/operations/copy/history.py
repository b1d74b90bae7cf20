"""What the journals of both archives are told, so that each knows what lies where."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from archiver.archive.clock import next_time
from archiver.archive.events import (
    Audited,
    Copied,
    CopyLost,
    Event,
    Forgotten,
    Gone,
    PlaceSeen,
    PlacesSeen,
    Remembered,
    Repaired,
    Sealed,
    Sighted,
    SmokeTested,
    new_event,
)
from archiver.archive.journal import merged
from archiver.archive.places import Copies, Place, forgotten
from archiver.archive.records import canonical
from archiver.errors import ArchiverError, DamageError, skip_damaged
from archiver.text import utc_before

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from archiver.archive.archive import Archive
    from archiver.archive.policy import Policy

_AT_ONCE: Final = 8000
"""Ids of snapshots in one event, so that it stays well below a megabyte."""
_SEEN_AGAIN: Final = 3600
"""Seconds in which a place that was seen is not told again."""
Thing = TypeVar("Thing")

Ends = tuple[Place, Place]
"""The places that were copied from and to."""


def tell_copied(
    archive: Archive,
    ends: Ends,
    snapshots: Iterable[str],
    packs: Iterable[str] = (),
    *,
    whole: bool = False,
    part: bool = False,
    always: bool = False,
) -> None:
    """Journal which snapshots are now at both places, those that are not told already.

    ``packs`` were read and read back by this run, and were whole at both. With ``whole`` the event is
    joined to every event that no other names. ``part`` is as in ``Copied``; ``always``: also
    if there is nothing else to tell.
    """
    events = list(archive.events(skip_damaged))
    new = sorted(set(snapshots) - Copies(events).between(*ends))
    one, other = ends
    listed = [*((True, name) for name in new), *((False, name) for name in packs)]
    for some in [*_portions(listed)] or [[]] * always:
        detail = Copied(
            from_=one.name,
            to=other.name,
            from_id=one.id,
            to_id=other.id,
            snapshots=tuple(name for is_snapshot, name in some if is_snapshot),
            packs=tuple(name for is_snapshot, name in some if not is_snapshot),
            part=part,
        )
        archive.journal.append(new_event(detail, time=next_time(events)), whole=whole)


def _portions(found: list[Thing]) -> Iterator[list[Thing]]:
    """Ids in lists that an event has room for."""
    for at in range(0, len(found), _AT_ONCE):
        yield found[at : at + _AT_ONCE]


def tell_seen(archive: Archive, seen: tuple[PlaceSeen, ...]) -> None:
    """Journal that these places were there, unless that was told within the hour."""
    events = list(archive.events(skip_damaged))
    since = utc_before(_SEEN_AGAIN)
    known = {
        place
        for _, event in events
        if event.time >= since and isinstance(event.detail, PlacesSeen)
        for place in event.detail.places
    }
    if not known.issuperset(seen):
        archive.journal.append(new_event(PlacesSeen(places=seen), time=next_time(events)))


def fetch_told(source: Archive, target: Archive, place: Place) -> int:
    """Tell the source's journal what the target's knows of copies and of its own bytes; how many events.

    So audits that were made there count here. Nothing else is taken from there: what the target sealed,
    forgot or wants is its own affair.
    """
    known = {_key(event) for _, event in source.events(skip_damaged)}
    count = 0
    for _, event in target.events(skip_damaged):
        match event.detail:
            case Audited() | Repaired() as detail:
                chosen = place.is_named(detail.place)
            case detail:
                chosen = isinstance(detail, Copied | CopyLost | PlacesSeen)
        if chosen and _key(event) not in known:
            source.record(event)
            count += 1
    return count


def told_copied(
    archive: Archive,
    ends: Ends,
    snapshots: set[str],
    packs: Iterable[str] = (),
    *,
    part: bool = False,
) -> bool:
    """Whether the journal of an archive that may be read-only tells of the copies now."""
    try:
        archive.require_writable()
        tell_copied(archive, ends, snapshots, packs, part=part)
    except ArchiverError:
        return snapshots <= Copies(archive.events(skip_damaged)).between(*ends)
    return True


def tell_anew(source: Archive, target: Archive, repositories: set[str], present: set[str]) -> int:
    """Tell the target's own journal what the source's says of some snapshots; how many events that took.

    Events of a chain cannot be copied one by one: what they follow would be missing. ``repositories``
    are lowercase, ``present`` are the ids of the snapshots that the target has.
    """
    known = {_key(event) for _, event in target.events(skip_damaged)}
    count = 0
    for _, event in source.events(skip_damaged):
        match event.detail:
            case Sealed(snapshot) | SmokeTested(snapshot):
                chosen = snapshot in present
            case Sighted() | Gone():
                chosen = event.repository.casefold() in repositories
            case _:
                chosen = False
        if chosen and _key(event) not in known:
            target.record(event)
            count += 1
    return count


def _key(event: Event) -> bytes:
    """What an event says, wherever it stands in a chain."""
    return canonical(msgspec.structs.replace(event, after=()))


def policy_of(archive: Archive) -> Policy | None:
    """The archive's policy, or None if it cannot be understood."""
    try:
        return archive.policy()
    except DamageError:
        return None


def keep_forgotten(source: Archive, target: Archive) -> None:
    """Say again what the target forgot and what it has, where the source's events will say otherwise.

    To be called before they come, so that whenever the run ends the target's journal fits its seals.
    """
    own, other = list(target.events(skip_damaged)), list(source.events(skip_damaged))
    ahead = list(merged(own, other))
    here = {one.id for one in target.snapshots(skip_damaged)}
    before, after = forgotten(own), forgotten(ahead)
    for kind, ids in ((Remembered, after & here), (Forgotten, before - after - here)):
        for some in _portions(sorted(ids)):
            event = new_event(kind(tuple(some)), time=next_time(ahead))
            target.journal.append(event, whole=True)


def keep_policy(archive: Archive, before: Policy | None) -> None:
    """Say again what the archive's policy was, if events of another archive have changed it."""
    if before is not None and policy_of(archive) != before:
        events = list(archive.events(skip_damaged))
        archive.journal.append(new_event(before, time=next_time(events)), whole=True)
