"""Telling the journal that a place has no copies any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archiver.archive.clock import next_time
from archiver.archive.events import CopyLost, new_event
from archiver.archive.place import Copies
from archiver.errors import DamageError, UsageError
from archiver.text import printable

if TYPE_CHECKING:
    from archiver.archive.archive import Archive


def lose(archive: Archive, place: str) -> int:
    """Journal that ``place``, a name or an identity, is lost; how many snapshots were said to be there.

    UsageError if the journal knows of no copies there, or several places have this name.
    """
    archive.require_writable()
    events = list(archive.events(_ignore))
    copies = Copies(events)
    found = copies.called(place)
    if not found:
        names = (
            ", ".join(sorted({printable(copies.name(one)) for one in copies.places()})) or "none"
        )
        raise UsageError(
            f"The journal tells of no copies at {printable(place)!r}.",
            hint=f"Places that it tells of: {names}.",
        )
    if len(found) > 1:
        raise UsageError(
            f"{len(found)} places are called {printable(place)!r}.",
            hint=f"Name the one that is lost by its identity: {', '.join(found)}.",
        )
    name = copies.name(found[0])
    lost = CopyLost(place=name, id=found[0] if found[0] != name else "")
    archive.record(new_event(lost, time=next_time(events)))
    return len(copies.places()[found[0]])


def _ignore(_name: str, _error: DamageError) -> None:
    """An audit tells of damaged events."""
