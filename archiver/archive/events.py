"""What journal events say, as types: one record for each kind (``docs/format.md``, section 8).

An event's ``detail`` is read into such a record and written from one, so that no other module knows
its keys. What a record does not name stays in the event as it is.
"""

from __future__ import annotations

from typing import ClassVar, TypeVar

import msgspec

from archiver import __version__
from archiver.archive.records import Event
from archiver.text import utc_now

TOOL = f"archiver {__version__}"


class Detail(msgspec.Struct, frozen=True):
    """The detail of one kind of event; ``EVENT`` is the kind's name in the journal."""

    EVENT: ClassVar[str]


class ClockSeen(Detail, frozen=True):
    """Which time it was when a run looked, which is the event's own time.

    Attributes:
        since: The time that the journal had come to before.
        confirmed: Whether a person said that this clock is right: no event before counts as later.
    """

    EVENT: ClassVar[str] = "clock"

    since: str = ""
    confirmed: bool = False


D = TypeVar("D", bound=Detail)


def new_event(detail: Detail, repository: str = "", revision: str = "", *, time: str = "") -> Event:
    """Return the event that says ``detail``, of ``time`` or of now."""
    raw = msgspec.to_builtins(detail)
    return Event(detail.EVENT, time or utc_now(), TOOL, repository, revision, raw)


def detail_of(event: Event, kind: type[D]) -> D | None:
    """Return what the event says if it is of this kind, else None.

    Also None for a detail that does not have the kind's types: it comes from another writer, or from
    somebody who can write here, and counts for nothing.
    """
    if event.event != kind.EVENT:
        return None
    try:
        return msgspec.convert(event.detail, kind)
    except msgspec.ValidationError:
        return None


# ---- copies and places


class Copied(Detail, frozen=True, omit_defaults=True):
    """Snapshots are now at both places.

    ``packs`` were read at ``from_`` and read back at ``to``, and were whole at both; of the others
    this event proves nothing. Events of older writers have no such list. Ids are those of places.
    """

    EVENT: ClassVar[str] = "copied"

    from_: str = msgspec.field(name="from")
    to: str
    snapshots: tuple[str, ...]
    packs: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    from_id: str = ""
    to_id: str = ""


class PlaceSeen(msgspec.Struct, frozen=True, omit_defaults=True):
    """A place that answered: its name and identity, where it lay, and on what.

    ``where`` is ``host:/absolute/path``; the rest is as in ``place_look.Device``.
    """

    place: str
    id: str = ""
    where: str = ""
    medium: str = "unknown"
    devices: tuple[str, ...] = ()
    label: str = ""
    filesystem: str = ""


class PlacesSeen(Detail, frozen=True):
    """These places were there."""

    EVENT: ClassVar[str] = "places-seen"

    places: tuple[PlaceSeen, ...]


class CopyLost(Detail, frozen=True, omit_defaults=True):
    """A place has no copies any more."""

    EVENT: ClassVar[str] = "copy-lost"

    place: str
    id: str = ""
