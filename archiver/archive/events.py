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
