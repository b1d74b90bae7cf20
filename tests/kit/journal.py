"""For tests of what other writers, and hostile ones, leave in a journal, and of journals of many years."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from archiver.archive import layout
from archiver.archive.archive import Archive
from archiver.archive.events import Event
from archiver.archive.records import canonical, record_digest
from archiver.text import seconds_of, utc_text

if TYPE_CHECKING:
    from pathlib import Path

SECONDS_BETWEEN = 4 * 3600
"""From one event to the next of a journal that is made longer: a night leaves six."""
REPEATED = {"synced", "audited", "copied", "places-seen", "night"}
"""What an idle night may leave."""


def raw_event(event, time, tool="test", repository="", revision="", detail=None):
    """An event as anybody could have written it, whatever its detail says."""
    raw = msgspec.Raw(msgspec.json.encode(detail or {}, order="sorted"))
    return Event(event, time, tool, repository, revision, raw)


def lengthen(root: Path, count: int) -> int:
    """Let the nights of an archive come again until its journal has ``count`` events.

    What it says last of each kind is said again and again. Returns how many were added.
    """
    archive = Archive.open(root)
    events = [event for _, event in archive.events()]
    said = list({event.event: event for event in events if event.event in REPEATED}.values())
    heads, time = archive.journal.heads(), max(event.time for event in events)
    added = count - len(events)
    for number in range(added):
        time = utc_text((seconds_of(time) or 0) + SECONDS_BETWEEN)
        event = msgspec.structs.replace(said[number % len(said)], time=time, after=heads)
        heads = (record_digest(event),)
        archive.store.put_new(layout.event_name(time, heads[0]), canonical(event))
    return added
