"""For tests of what other writers, and hostile ones, leave in a journal."""

from __future__ import annotations

import msgspec

from archiver.archive.events import Event


def raw_event(event, time, tool="test", repository="", revision="", detail=None):
    """An event as anybody could have written it, whatever its detail says."""
    raw = msgspec.Raw(msgspec.json.encode(detail or {}, order="sorted"))
    return Event(event, time, tool, repository, revision, raw)
