"""Places: what the journal calls the folders that hold copies, and which snapshots lie in which of them."""

from __future__ import annotations

import os
import socket
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from archiver.archive.events import Copied, CopyLost, Forgotten, Remembered, Sealed
from archiver.archive.fixity import read_or_reread
from archiver.archive.layout import PLACE
from archiver.archive.quarantine import move_to_quarantine
from archiver.archive.records import is_identity, place_file, read_place
from archiver.errors import ArchiverError, DeniedError, UsageError, skip_damaged
from archiver.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from archiver.archive.archive import Archive
    from archiver.archive.events import Event
    from archiver.archive.fixity import ReadResult
    from archiver.storage.store import Store

_LONGEST: Final = 255


def place_of(root: Path) -> str:
    """Return the name of an archive's place where nobody chose one: ``host:/absolute/path``."""
    path = os.path.realpath(root)
    return f"{socket.gethostname()}:{printable(path, len(path))}"


class Place(NamedTuple):
    """A folder that holds an archive: its name, for people, and its identity, ``""`` if not known."""

    name: str
    id: str = ""

    @property
    def key(self) -> str:
        """What events name it by."""
        return self.id or self.name

    def is_named(self, place: str) -> bool:
        """Return whether an event that names a place so means this one."""
        return place in {self.key, self.name}


def place_name(store: Store) -> str:
    """Return the name of a store's place where nobody chose one."""
    return place_of(store.folder.path) if store.folder else store.address


def own_place(archive: Archive) -> Place:
    """Return the place where an archive lies, as far as it is known without writing."""
    identity, _ = _read_identity(archive.store)
    return Place(place_name(archive.store), identity or "")


def settled_place(archive: Archive) -> Place:
    """Return the place where an archive lies; it gets an identity if it has none, or a damaged one.

    Where nothing can be written it is known by its name only.
    """
    store, name = archive.store, place_name(archive.store)
    try:
        archive.require_writable()
        identity, state = _read_identity(store)
        if identity:
            return Place(name, identity)
        if state.denied:
            raise DeniedError(state.problem)
        known = ""
        if state.problem:
            # What was damaged here had this name. A file that somebody took away means a new place.
            known = PlaceContents(archive.events(skip_damaged)).identity(name)
            move_to_quarantine(store, PLACE)
        store.put_new(PLACE, place_file(known))
        return Place(name, read_place(store))
    except ArchiverError:
        return own_place(archive)


def place_damaged(archive: Archive) -> bool:
    """Return whether what says which place this is cannot be understood."""
    _, state = _read_identity(archive.store)
    return bool(state.problem) and not state.denied


def _read_identity(store: Store) -> tuple[str | None, ReadResult]:
    return read_or_reread(store, PLACE, partial(read_place, store))


def as_place_name(text: str) -> str:
    """Return a name that a person gave a place; raise UsageError if the journal should not hold it."""
    if not text.strip() or not text.isprintable() or len(text) > _LONGEST:
        raise UsageError(
            f"{printable(text, 80)!r} is no name for a place.",
            hint=f"1 to {_LONGEST} printable characters, such as 'usb disk 2' or 'nas:/weights'.",
        )
    return text


class PlaceContents:
    """Which snapshots lie at which places, as far as a journal's events (oldest first) tell.

    A place is known by its identity; where events name none, by its name. A name that some event gives
    to an identity means that one also in the events that know no identities.
    """

    def __init__(self, events: Iterable[tuple[str, Event]]) -> None:
        details = [
            event.detail for _, event in events if isinstance(event.detail, Copied | CopyLost)
        ]
        self._names: dict[str, str] = {}
        self._ids: dict[str, str] = {}
        copies = [detail for detail in details if isinstance(detail, Copied)]
        for place in (end for copied in copies for end in copy_ends(copied) if end.id):
            self._names[place.id] = place.name
            self._ids[place.name] = place.id
        self._called: dict[str, list[str]] = {}
        self._at: dict[str, set[str]] = {}
        self._links: dict[frozenset[str], set[str]] = {}
        for detail in details:
            if isinstance(detail, Copied):
                self._copied(detail)
            else:
                self._lost(self.key(Place(detail.place, _identity(detail.id))))

    def key(self, place: Place) -> str:
        """Return by what a place is known here: its identity, or else its name."""
        return place.id or self.identity(place.name) or place.name

    def _copied(self, copied: Copied) -> None:
        ends = self.ends(copied)
        self._links.setdefault(ends, set()).update(copied.snapshots)
        for end in ends:
            self._at.setdefault(end, set()).update(copied.snapshots)

    def _lost(self, place: str) -> None:
        self._at.pop(place, None)
        self._links = {ends: held for ends, held in self._links.items() if place not in ends}

    def ends(self, copied: Copied) -> frozenset[str]:
        """Return the places that were copied from and to: their identities, or else names."""
        return frozenset(map(self.key, copy_ends(copied)))

    def identity(self, name: str) -> str:
        """Return the identity that had this name last; ``""`` if none had."""
        return self._ids.get(name, "")

    def name(self, place: str) -> str:
        """Return the newest name of a place that is given by its identity, or else its name."""
        return self._names.get(place, place)

    def names(self, place: str) -> list[str]:
        """Return every name that events gave the place with this identity."""
        if not self._called:
            for name, known in self._ids.items():
                self._called.setdefault(known, []).append(name)
        return sorted(self._called.get(place, ()))

    def identities(self) -> frozenset[str]:
        """Return the identities that events name."""
        return frozenset(self._names)

    def called(self, text: str) -> list[str]:
        """Return the places that hold copies and have this identity, or name; or had it, if none has.

        Else those whose newest name is this path: on this machine, or else anywhere.
        """
        if text in self._at:
            return [text]
        names = {place: self.name(place) for place in self._at}
        named = sorted(place for place in names if names[place] == text)
        former = [place for place in names if place == self.identity(text)]
        if named or former:
            return named or former
        # The path is taken as text, because what is lost may be a dead mount.
        path = printable(os.path.abspath(text), _LONGEST)  # noqa: PTH100
        here = sorted(place for place in names if names[place] == f"{socket.gethostname()}:{path}")
        return here or sorted(place for place in names if names[place].endswith(f":{path}"))

    def places(self) -> dict[str, frozenset[str]]:
        """Identity, or else name -> the ids of the snapshots there; places that were lost are not in it."""
        return {place: frozenset(held) for place, held in self._at.items()}

    def of(self, snapshot: str) -> frozenset[str]:
        """Return the places, by identity or else name, that hold the snapshot with this id."""
        return frozenset(place for place, held in self._at.items() if snapshot in held)

    def between(self, *places: Place) -> frozenset[str]:
        """Return the ids of the snapshots that a copy from one of these two places to the other names.

        There are none if a place has another name by now: then the journal is to be told of it.
        """
        if any(place.id and self.name(place.id) != place.name for place in places):
            return frozenset()
        return frozenset(self._links.get(frozenset(map(self.key, places)), ()))


def copy_ends(copied: Copied) -> Iterator[Place]:
    """Yield the places that a copy was made between, where it came from first."""
    for name, identity in ((copied.from_, copied.from_id), (copied.to, copied.to_id)):
        place = Place(name, _identity(identity))
        if place.key:
            yield place


def _identity(text: str) -> str:
    return text if is_identity(text) else ""


def forgotten(events: Iterable[tuple[str, Event]]) -> frozenset[str]:
    """Return the ids of the snapshots that the events tell were forgotten, and not remembered.

    Nor sealed again: within a second that makes the same seal. The oldest event comes first.
    """
    ids: set[str] = set()
    for _, event in events:
        match event.detail:
            case Forgotten(snapshots):
                ids.update(snapshots)
            case Remembered(snapshots):
                ids.difference_update(snapshots)
            case Sealed(snapshot):
                ids.discard(snapshot)
    return frozenset(ids)
