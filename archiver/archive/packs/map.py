"""Which pack holds which object, read from the packs' own indexes: the authority for every restore."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol, TypeVar

from archiver.archive.layout import pack_name
from archiver.errors import ArchiverError, DamageError, UnreadableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from archiver.archive.packs.reader import PackReader
    from archiver.archive.packs.records import IndexEntry
    from archiver.codec.segment import EncodedObject
    from archiver.codec.zstd import Bytes

Taken = TypeVar("Taken")


class Shelf(Protocol):
    """Where packs are read, such as an archive."""

    def pack(self, pack: str) -> PackReader:
        """A shared reader of a pack; DamageError if the pack is missing."""


class PackMap:
    """Object -> pack and entry, over some packs.

    A pack whose index is lost is walked frame by frame. What is wrong with a pack is kept in
    ``problems`` (pack -> reason); objects that walking does not find are missing from the map. Of
    an object that lies in several packs any good copy is read.

    What comes out of none of the packs is looked for in those that ``spare`` gives, such as all others
    of the archive. It is asked at most once, and only when something is missing or damaged.
    """

    def __init__(
        self,
        archive: Shelf,
        packs: Iterable[str],
        spare: Callable[[], Iterable[str]] | None = None,
    ) -> None:
        self._archive = archive
        self._spare = spare
        self._lock = threading.Lock()
        self._denied: ArchiverError | None = None
        self._found: dict[bytes, tuple[int, IndexEntry]] = {}
        self._copies: dict[bytes, list[tuple[int, IndexEntry]]] = {}
        self._packs: list[str] = []
        self._walked: dict[str, dict[bytes, list[IndexEntry]]] = {}
        self._hidden: dict[bytes, list[tuple[int, IndexEntry]]] | None = None
        self.problems: dict[str, str] = {}
        for pack in packs:
            self._add(pack)

    def _add(self, pack: str) -> None:
        number = len(self._packs)
        self._packs.append(pack)
        for entry in self._entries(pack):
            key, place = bytes.fromhex(entry.blake3), (number, entry)
            if self._found.setdefault(key, place) is not place:
                self._copies.setdefault(key, []).append(place)

    def _entries(self, pack: str) -> Iterable[IndexEntry]:
        try:
            reader = self._archive.pack(pack)
        except ArchiverError as error:
            self.problems[pack] = error.message
            if isinstance(error, UnreadableError) or not isinstance(error, DamageError):
                self._denied = self._denied or error
            return ()
        try:
            return reader.index()
        except DamageError as error:
            self.problems[pack] = error.message
            return list(reader.walk())

    def __len__(self) -> int:
        return len(self._found)

    def find(self, digest: str) -> tuple[str, IndexEntry] | None:
        """Pack and entry of an object, or None."""
        found = self._found.get(bytes.fromhex(digest))
        return (self._packs[found[0]], found[1]) if found else None

    def read(self, digest: str, size: int, out: Bytes) -> None:
        """Decode an object of ``size`` plain bytes into ``out``.

        Raises:
            DamageError: No copy of it is whole.
            ArchiverError: It is in no pack that may be read.
        """

        def read(pack: str, entry: IndexEntry) -> None:
            if entry.size != size:
                raise DamageError(
                    f"{pack_name(pack)} lists another size for object {digest}.", object=digest
                )
            self._archive.pack(pack).read(entry, out[:size])

        self._first_whole(digest, read)

    def copy(self, digest: str) -> EncodedObject:
        """An object as it is stored in a pack that has it whole; errors as for ``read``."""
        return self._first_whole(digest, lambda pack, entry: self._archive.pack(pack).copy(entry))

    def _first_whole(self, digest: str, take: Callable[[str, IndexEntry], Taken]) -> Taken:
        """What ``take`` makes of the first copy that is whole."""
        reason: DamageError | None = None
        for pack, entry in self._places(digest):
            try:
                return take(pack, entry)
            except DamageError as error:
                error.pack, error.path = pack, pack_name(pack)
                reason = reason or error
        raise (
            self._denied
            or reason
            or DamageError(f"Object {digest} is in no readable pack.", object=digest)
        )

    def _look_further(self) -> None:
        """Take in the spare packs, once."""
        with self._lock:
            spare, self._spare = self._spare, None
            for pack in spare() if spare else ():
                if pack not in self._packs:
                    self._add(pack)

    def _listed(self, digest: str) -> list[tuple[str, IndexEntry]]:
        """Where the indexes have an object."""
        key = bytes.fromhex(digest)
        found = self._found.get(key)
        places = [found, *self._copies.get(key, [])] if found else []
        return [(self._packs[number], entry) for number, entry in places]

    def _places(self, digest: str) -> Iterator[tuple[str, IndexEntry]]:
        """Where an object may lie: by the indexes, and then where its pack's frames have it."""
        tried = self._listed(digest)
        yield from tried
        self._look_further()
        yield from (place for place in self._listed(digest) if place not in tried)
        if not tried:
            places = self._unlisted().get(bytes.fromhex(digest), ())
            yield from ((self._packs[number], entry) for number, entry in places)
            return
        pack, listed = tried[0]
        for entry in self._by_frames(pack).get(bytes.fromhex(digest), ()):
            if entry != listed:
                yield pack, entry

    def _unlisted(self) -> dict[bytes, list[tuple[int, IndexEntry]]]:
        """The objects that frames have and no index lists; all packs are walked through once."""
        with self._lock:
            if self._hidden is None:
                self._hidden = {}
                for number, pack in enumerate(self._packs):
                    with suppress(ArchiverError):
                        for entry in self._archive.pack(pack).walk():
                            key = bytes.fromhex(entry.blake3)
                            if key not in self._found:
                                self._hidden.setdefault(key, []).append((number, entry))
            return self._hidden

    def _by_frames(self, pack: str) -> dict[bytes, list[IndexEntry]]:
        """Where the frames of a pack have its objects; it is walked through once."""
        with self._lock:
            if pack not in self._walked:
                found: dict[bytes, list[IndexEntry]] = {}
                for entry in self._archive.pack(pack).walk():
                    found.setdefault(bytes.fromhex(entry.blake3), []).append(entry)
                self._walked = {pack: found}  # one at a time: a pack may have many objects
            return self._walked[pack]
