"""What the journals of both archives are told, so that each knows what lies where."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from archiver.archive.archive import TOOL, Archive
from archiver.archive.clock import next_time
from archiver.archive.journal import merged
from archiver.archive.place import COPIED, Copies, Place, forgotten
from archiver.archive.policy import EVENT as POLICY
from archiver.archive.records import Event, canonical
from archiver.errors import ArchiverError, DamageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.archive.policy import Policy

_AT_ONCE: Final = 8000
"""Ids of snapshots in one event, so that it stays well below a megabyte."""
_OF_ONE: Final = {"sealed", "smoke-tested"}
_TOLD_ANEW: Final = {"sighted", "gone"}

Ends = tuple[Place, Place]
"""The places that were copied from and to."""


def tell_copied(archive: Archive, ends: Ends, snapshots: set[str], *, whole: bool = False) -> None:
    """Journal which snapshots are now at both places, those that are not told already.

    With ``whole`` the event is joined to every event that no other names.
    """
    events = list(archive.events(_ignore))
    for some in _portions(snapshots - Copies(events).between(*ends)):
        detail = {**ends[0].ends("from"), **ends[1].ends("to"), "snapshots": some}
        event = Event(COPIED, next_time(events), TOOL, detail=detail)
        archive.journal.append(event, whole=whole)


def _portions(ids: set[str] | frozenset[str]) -> Iterator[list[str]]:
    """Ids of snapshots in lists that an event has room for."""
    found = sorted(ids)
    for at in range(0, len(found), _AT_ONCE):
        yield found[at : at + _AT_ONCE]


def told_copied(archive: Archive, ends: Ends, snapshots: set[str]) -> bool:
    """Whether the journal of an archive that may be read-only tells of the copies now."""
    try:
        archive.require_writable()
        tell_copied(archive, ends, snapshots)
    except ArchiverError:
        return snapshots <= Copies(archive.events(_ignore)).between(*ends)
    return True


def tell_anew(source: Archive, target: Archive, repositories: set[str], present: set[str]) -> int:
    """Tell the target's own journal what the source's says of some snapshots; how many events that took.

    Events of a chain cannot be copied one by one: what they follow would be missing. ``repositories``
    are lowercase, ``present`` are the ids of the snapshots that the target has.
    """
    known = {_key(event) for _, event in target.events(_ignore)}
    count = 0
    for _, event in source.events(_ignore):
        of_one = event.event in _OF_ONE and event.snapshot in present
        about = event.event in _TOLD_ANEW and event.repository.casefold() in repositories
        if (of_one or about) and _key(event) not in known:
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
    own, other = list(target.events(_ignore)), list(source.events(_ignore))
    ahead = list(merged(own, other))
    here = {one.id for one in target.snapshots(lambda _name, _error: None)}
    before, after = forgotten(own), forgotten(ahead)
    for name, ids in (("remembered", after & here), ("forgotten", before - after - here)):
        for some in _portions(ids):
            event = Event(name, next_time(ahead), TOOL, detail={"snapshots": some})
            target.journal.append(event, whole=True)


def keep_policy(archive: Archive, before: Policy | None) -> None:
    """Say again what the archive's policy was, if events of another archive have changed it."""
    if before is not None and policy_of(archive) != before:
        events = list(archive.events(_ignore))
        detail = msgspec.to_builtins(before)
        archive.journal.append(Event(POLICY, next_time(events), TOOL, detail=detail), whole=True)


def _ignore(_name: str, _error: DamageError) -> None:
    """An audit tells of damaged events."""
