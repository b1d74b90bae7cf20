"""What the journals of both archives record of a copy, so that each knows what lies where."""

from __future__ import annotations

from bisect import bisect_left
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from archiver.archive import layout
from archiver.archive.clock import next_time
from archiver.archive.events import (
    Audited,
    Copied,
    CopyLost,
    DamageMet,
    Event,
    Forgotten,
    Gone,
    PlaceSeen,
    PlacesSeen,
    ReceiptAccepted,
    Remembered,
    Repaired,
    Sealed,
    Sighted,
    SmokeTested,
    UpstreamChanged,
    new_event,
)
from archiver.archive.journal import merged
from archiver.archive.places import Place, PlaceContents, forgotten
from archiver.archive.receipts import accepted_receipts, places_called, receipts_by_place
from archiver.archive.records import canonical
from archiver.errors import ArchiverError, DamageError, UsageError, skip_damaged
from archiver.text import printable, utc_before

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from archiver.archive.archive import Archive
    from archiver.archive.policy import Policy

_IDS_MAX: Final = 8000
"""Ids of snapshots in one event, so that it stays well below a megabyte."""
_SEEN_SECONDS: Final = 3600
"""For so long a place that was seen is not recorded once more."""
Item = TypeVar("Item")

Ends = tuple[Place, Place]
"""The places that were copied from and to."""


def record_copied(
    archive: Archive,
    ends: Ends,
    snapshots: Iterable[str],
    packs: Iterable[str] = (),
    *,
    whole: bool = False,
    part: bool = False,
    always: bool = False,
) -> None:
    """Journal which snapshots are now at both places, those that are not recorded already.

    ``packs`` were read and read back by this run, and were whole at both. With ``whole`` the event is
    joined to every event that no other names. ``part`` is as in ``Copied``; ``always``: also
    if there is nothing new to record.
    """
    events = archive.standing_events()
    new = sorted(set(snapshots) - PlaceContents(events).between(*ends))
    source, target = ends
    ids = [*((True, snapshot) for snapshot in new), *((False, pack) for pack in packs)]
    for portion in [*_portions(ids)] or [[]] * always:
        detail = Copied(
            from_=source.name,
            to=target.name,
            from_id=source.id,
            to_id=target.id,
            snapshots=tuple(name for is_snapshot, name in portion if is_snapshot),
            packs=tuple(name for is_snapshot, name in portion if not is_snapshot),
            part=part,
        )
        archive.journal.append(new_event(detail, time=next_time(events)), whole=whole)


def _portions(ids: list[Item]) -> Iterator[list[Item]]:
    """Give the ids in lists that an event has room for."""
    for at in range(0, len(ids), _IDS_MAX):
        yield ids[at : at + _IDS_MAX]


def record_seen(archive: Archive, seen: tuple[PlaceSeen, ...]) -> None:
    """Journal that these places were there, unless that was recorded within the hour."""
    events = archive.standing_events()
    since = utc_before(_SEEN_SECONDS)
    known = {
        place
        for _, event in events
        if event.time >= since and isinstance(event.detail, PlacesSeen)
        for place in event.detail.places
    }
    if not known.issuperset(seen):
        archive.journal.append(new_event(PlacesSeen(places=seen), time=next_time(events)))


def fetch_copies_and_proofs(source: Archive, target: Archive, place: Place) -> None:
    """Record in the source's journal what the target's says of copies and of its own bytes.

    So audits that were made there count here, but for old ones that newer ones have superseded. Nothing
    else is taken from there: what the target sealed, forgot or wants is its own affair.
    """
    names = source.journal.names()
    ids = {layout.event_of(name) for name in names}
    known = {_key(event) for _, event in source.standing_events()}
    for digest, event in target.standing_events():
        match event.detail:
            case Audited() | DamageMet() | Repaired() as detail:
                chosen = place.is_named(detail.place)
            case detail:
                chosen = isinstance(detail, Copied | CopyLost | PlacesSeen | ReceiptAccepted)
        if (
            chosen
            and digest not in ids
            and _key(event) not in known
            and not _is_recorded(source, names, event)
        ):
            source.record(event)


def _is_recorded(archive: Archive, names: list[str], event: Event) -> bool:
    """Return whether one of the events of the same second, of those with these names, says the same."""
    begin = layout.event_name(event.time, "").removesuffix(".json")
    for name in names[bisect_left(names, begin) :]:
        if not name.startswith(begin):
            return False
        with suppress(ArchiverError):
            if _key(archive.journal.read(name)) == _key(event):
                return True
    return False


def try_record_copied(
    archive: Archive,
    ends: Ends,
    snapshots: set[str],
    packs: Iterable[str] = (),
    *,
    part: bool = False,
) -> bool:
    """Record copies in an archive that may be read-only; return whether its journal knows of them now."""
    try:
        archive.require_writable()
        record_copied(archive, ends, snapshots, packs, part=part)
    except ArchiverError:
        return snapshots <= PlaceContents(archive.standing_events()).between(*ends)
    return True


def record_again(
    source: Archive, target: Archive, repositories: set[str], present: set[str]
) -> None:
    """Record in the target's journal, as new events, what the source's says of some snapshots.

    Events of a chain cannot be copied one by one: what they follow would be missing. ``repositories``
    are lowercase, ``present`` are the ids of the snapshots that the target has.
    """
    known = {_key(event) for _, event in target.events(skip_damaged)}
    for _, event in source.events(skip_damaged):
        match event.detail:
            case Sealed(snapshot) | SmokeTested(snapshot):
                chosen = snapshot in present
            case Sighted() | Gone() | UpstreamChanged():
                chosen = event.repository.casefold() in repositories
            case _:
                # Of a kind that is not known here nothing can be said but whom it is about.
                about = event.repository.casefold()
                chosen = event.type is None and about in repositories
        if chosen and _key(event) not in known:
            target.record(event)


def _key(event: Event) -> bytes:
    """Return what an event says, wherever it stands in a chain."""
    return canonical(msgspec.structs.replace(event, after=()))


def policy_if_readable(archive: Archive) -> Policy | None:
    """Return the archive's policy, or None if it cannot be understood."""
    try:
        return archive.policy()
    except DamageError:
        return None


def keep_forgotten(source: Archive, target: Archive) -> None:
    """Record again what the target forgot and what it has, where the source's events will say otherwise.

    To be called before they come, so that whenever the run ends the target's journal fits its seals.
    """
    own, other = list(target.events(skip_damaged)), list(source.events(skip_damaged))
    ahead = list(merged(own, other))
    held = {snapshot.id for snapshot in target.snapshots(skip_damaged)}
    before, after = forgotten(own), forgotten(ahead)
    for kind, ids in ((Remembered, after & held), (Forgotten, before - after - held)):
        for portion in _portions(sorted(ids)):
            event = new_event(kind(tuple(portion)), time=next_time(ahead))
            target.journal.append(event, whole=True)


def keep_policy(archive: Archive, before: Policy | None) -> None:
    """Record again what the archive's policy was, if events of another archive have changed it."""
    if before is not None and policy_if_readable(archive) != before:
        events = list(archive.events(skip_damaged))
        archive.journal.append(new_event(before, time=next_time(events)), whole=True)


def record_lost(archive: Archive, place: str) -> int:
    """Journal that ``place``, a name or an identity, is lost; return how many snapshots it was to hold.

    Raise UsageError if the journal knows of no copies there, or several places have this name.
    """
    archive.require_writable()
    events = list(archive.events(skip_damaged))
    copies = PlaceContents(events)
    by_place = receipts_by_place(accepted_receipts(events), archive.policy().keys, {})
    called = places_called(by_place, place)
    candidates = copies.called(place) or sorted(called)
    if not candidates:
        names = {printable(copies.name(key)) for key in copies.places()}
        names |= {printable(says.newest.receipt.name) for says in by_place.values()}
        raise UsageError(
            f"The journal tells of no copies at {printable(place)!r}.",
            hint=f"Places that it tells of: {', '.join(sorted(names)) or 'none'}.",
        )
    if len(candidates) > 1:
        raise UsageError(
            f"{len(candidates)} places are called {printable(place)!r}.",
            hint=f"Name the one that is lost by its identity: {', '.join(candidates)}.",
        )
    (key,) = candidates
    receipt = called[key].newest.receipt if key in called else None
    name = receipt.name if receipt else copies.name(key)
    lost = CopyLost(place=name, id=key if key != name else "")
    archive.record(new_event(lost, time=next_time(events)))
    return len(copies.places().get(key, ()) or (receipt.snapshots if receipt else ()))
