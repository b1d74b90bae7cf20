"""Where single objects may come from: other packs, files out of use, other archives, plain folders."""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from archiver.archive.out_of_use import AsidePacks
from archiver.archive.packs.map import PackMap, Shelf
from archiver.digest import blake3_hex
from archiver.errors import ArchiverError

if TYPE_CHECKING:
    from collections.abc import Callable

    from archiver.archive.archive import Archive
    from archiver.archive.repair.needs import Need
    from archiver.codec.segment import EncodedObject
    from archiver.codec.zstd import Bytes

OWN: Final = "this archive"
"""The title of the archive's own packs, of which some may be damaged."""


class ObjectSource(Protocol):
    """Somewhere that objects may be had from."""

    title: str
    """What it is called in a report."""

    def offers(self, need: Need) -> bool:
        """Whether it says that it has the object; for a dry run."""

    def fetch(self, need: Need) -> EncodedObject | None:
        """The object, checked against its BLAKE3, ready to be stored; None if it is not here."""


class PackSource:
    """Packs on a shelf, whatever else may be wrong with them."""

    def __init__(self, shelf: Shelf, packs: list[str], title: str) -> None:
        self.title = title
        self._shelf = shelf
        self._packs = packs

    @cached_property
    def _map(self) -> PackMap:
        return PackMap(self._shelf, self._packs)

    def offers(self, need: Need) -> bool:
        """Whether a pack has it whole."""
        return self.fetch(need) is not None

    def fetch(self, need: Need) -> EncodedObject | None:
        """The object as it is stored there."""
        if self._map.find(need.digest) is None:
            return None
        try:
            found = self._map.copy(need.digest)
        except (ArchiverError, ValueError):
            return None
        return found if found.header.size == need.size else None


def packs_of(archive: Archive, title: str) -> list[ObjectSource]:
    """The packs of an archive, and then those that it has out of use."""
    aside = AsidePacks(archive.store)
    return [
        PackSource(archive, list(archive.packs()), title or OWN),
        PackSource(aside, aside.names(), f"{title} quarantine or trash".lstrip()),
    ]


class FolderSource:
    """A plain folder, such as a restored one, or a hub client's cache; also where it is damaged.

    ``look`` gives, for the folder and for each snapshot in it, the path of each file and where it lies.
    """

    def __init__(self, title: str, look: Callable[[], list[dict[str, str]]]) -> None:
        self.title = title
        self._look = look

    @cached_property
    def _files(self) -> list[dict[str, str]]:
        return self._look()

    def offers(self, need: Need) -> bool:
        """Whether a file has it at the place where the manifest says."""
        return self._plain(need) is not None

    def fetch(self, need: Need) -> EncodedObject | None:
        """The object, encoded anew."""
        plain = self._plain(need)
        return None if plain is None else need.encoded(plain)

    def _plain(self, need: Need) -> Bytes | None:
        for place in need.places:
            for files in self._files:
                where = files.get(place.entry.path)
                plain = _read(where, place.offset, need.size) if where else None
                if plain is not None and blake3_hex(plain.data) == need.digest:
                    return plain
        return None


def _read(where: str, offset: int, size: int) -> Bytes | None:
    """A stretch of a file; None if it cannot be read or is not there."""
    plain, done = np.empty(size, np.uint8), 0
    try:
        handle = os.open(where, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        while done < size:
            count = os.preadv(handle, [plain[done:].data], offset + done)
            if not count:
                return None
            done += count
    except OSError:
        return None
    finally:
        os.close(handle)
    return plain
