"""Plans: ending one, and comparing an archive with one, without a network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archiver.archive.events import PlanRetired, new_event
from archiver.archive.place import settled_place
from archiver.archive.plans import Plans
from archiver.errors import UsageError
from archiver.text import printable

if TYPE_CHECKING:
    from archiver.archive.archive import Archive


def retire(archive: Archive, name: str) -> None:
    """Journal that a plan feeds this place no more; UsageError if none of this name does."""
    archive.require_writable()
    archive.store.require_writable()
    place = settled_place(archive)
    plans = Plans(list(archive.events(lambda _name, _error: None)), place)
    if plans.find(name) is None:
        names = ", ".join(printable(one.planned.plan) for one in plans.active)
        raise UsageError(
            f"No plan {printable(name, 80)!r} feeds the archive at this place.",
            hint=f"These do: {names}." if names else "None does; 'archiver sync' begins one.",
        )
    archive.record(new_event(PlanRetired(name, place.told), time=plans.next_time()))
