"""Telling the journal that a place has no copies any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archiver.archive.archive import TOOL
from archiver.archive.place import LOST, Copies, next_time
from archiver.archive.records import Event
from archiver.errors import DamageError, UsageError
from archiver.text import printable

if TYPE_CHECKING:
    from archiver.archive.archive import Archive


def lose(archive: Archive, place: str) -> int:
    """Journal that ``place`` is lost; how many snapshots were said to be there.

    UsageError if the journal knows of no copies there.
    """
    archive.require_writable()
    events = list(archive.events(_ignore))
    known = Copies(events).places()
    if place not in known:
        names = ", ".join(printable(one) for one in sorted(known)) or "none"
        raise UsageError(
            f"The journal tells of no copies at {printable(place)!r}.",
            hint=f"Places that it tells of: {names}.",
        )
    archive.record(Event(LOST, next_time(events), TOOL, detail={"place": place}))
    return len(known[place])


def _ignore(_name: str, _error: DamageError) -> None:
    """An audit tells of damaged events."""
