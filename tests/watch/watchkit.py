"""What the tests of watching share: nights, and what the journal says after them."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from kit.repository import REPO

from archiver.archive.archive import Archive
from archiver.archive.events import UpstreamChanged, UpstreamUnseen
from archiver.archive.watch import is_news

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    from kit.cli import Result

    from archiver.loopback.hub import Hub


class Nights:
    """A clock that goes from night to night, and a look at upstream on each."""

    def __init__(self, now: datetime, run: Callable[..., Result], archive: Path, hub: Hub) -> None:
        self.now = now
        self.hub = hub
        self.archive = archive
        self.run = run

    def look(self, *words: object) -> Result:
        """Look now, a minute after what was before."""
        self.now += timedelta(minutes=1)
        return self.run("watch", "-C", self.archive, *words)

    def night(self, *words: object) -> Result:
        """Look in the next night."""
        self.now += timedelta(days=1)
        return self.look(*words)

    def events(self) -> list[object]:
        """The details of all events of looks."""
        events = Archive.open(self.archive).events()
        kinds = UpstreamChanged | UpstreamUnseen
        return [event.detail for _, event in events if isinstance(event.detail, kinds)]

    def changes(self, repository: str = REPO) -> list[tuple[str, ...]]:
        """What, name, before and after of all news of a repository, oldest first."""
        return [
            (change.what, change.name, change.before, change.after)
            for change in self.records(repository)
        ]

    def records(self, repository: str = REPO) -> list:
        """All news of a repository."""
        events = Archive.open(self.archive).events()
        return [
            change
            for _, event in events
            if isinstance(event.detail, UpstreamChanged) and event.repository == repository
            for change in event.detail.changes
            if is_news(change, first=event.detail.first)
        ]
