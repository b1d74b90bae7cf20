"""Places: what the journal calls the folders that hold copies, and which snapshots lie in which of them."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Final

from archiver.errors import UsageError
from archiver.text import printable, utc_after

if TYPE_CHECKING:
    from collections.abc import Iterable

    from archiver.archive.archive import Archive
    from archiver.archive.records import Event

COPIED: Final = "copied"
LOST: Final = "copy-lost"
_LONGEST: Final = 255


def place_of(root: Path) -> str:
    """The name of an archive's place where nobody chose one: ``host:/absolute/path``."""
    path = os.path.realpath(root)
    return f"{socket.gethostname()}:{printable(path, len(path))}"


def own_place(archive: Archive) -> str:
    """The name of the place where an archive lies."""
    return place_of(Path(archive.store.describe()))


def check_place(text: str) -> str:
    """A name that a person gave a place; UsageError if the journal should not hold it."""
    if not text.strip() or not text.isprintable() or len(text) > _LONGEST:
        raise UsageError(
            f"{printable(text, 80)!r} is no name for a place.",
            hint=f"1 to {_LONGEST} printable characters, such as 'usb disk 2' or 'nas:/weights'.",
        )
    return text


class Copies:
    """Which snapshots lie at which places, as far as a journal's events (oldest first) tell."""

    def __init__(self, events: Iterable[tuple[str, Event]]) -> None:
        self._at: dict[str, set[str]] = {}
        self._links: dict[frozenset[str], set[str]] = {}
        for _, event in events:
            if event.event == COPIED:
                self._copied(event)
            elif event.event == LOST:
                self._lost(str(event.detail.get("place", "")))

    def _copied(self, event: Event) -> None:
        ends = frozenset(str(event.detail.get(end, "")) for end in ("from", "to")) - {""}
        snapshots = event.listed("snapshots")
        self._links.setdefault(ends, set()).update(snapshots)
        for end in ends:
            self._at.setdefault(end, set()).update(snapshots)

    def _lost(self, place: str) -> None:
        self._at.pop(place, None)
        self._links = {ends: held for ends, held in self._links.items() if place not in ends}

    def places(self) -> dict[str, frozenset[str]]:
        """Place -> the ids of the snapshots that it holds; places that were lost are not in it."""
        return {place: frozenset(held) for place, held in self._at.items()}

    def of(self, snapshot: str) -> frozenset[str]:
        """The places that hold the snapshot with this id."""
        return frozenset(place for place, held in self._at.items() if snapshot in held)

    def between(self, one: str, other: str) -> frozenset[str]:
        """The ids of the snapshots that are told to be at both places, by a copy from one to the other."""
        return frozenset(self._links.get(frozenset({one, other}), ()))


def next_time(events: Iterable[tuple[str, Event]]) -> str:
    """The time for an event that must count as later than all of these."""
    return utc_after(max((event.time for _, event in events), default=""))


def forgotten(events: Iterable[tuple[str, Event]]) -> frozenset[str]:
    """The ids of the snapshots that the events (oldest first) tell were forgotten, and not remembered.

    Nor sealed again: within a second that makes the same seal.
    """
    found: set[str] = set()
    for _, event in events:
        if event.event == "forgotten":
            found |= event.listed("snapshots")
        elif event.event == "remembered":
            found -= event.listed("snapshots")
        elif event.event == "sealed":
            found.discard(event.snapshot)
    return frozenset(found)
