"""Recovery: what one archive still has of an object that came out damaged, in memory and without writing.

The pack itself once more, from the medium; another pack; what lies in quarantine or trash; and what parity
makes of a damaged pack. Each is proven by the object's BLAKE3 before it is given.
"""

from __future__ import annotations

import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import numpy as np

from archiver.archive import layout
from archiver.archive.archive import Archive
from archiver.archive.packs.index import ObjectIndex, located
from archiver.archive.packs.reader import PackReader
from archiver.archive.parity.reconstruct import MendedReader
from archiver.archive.quarantine import QuarantinedPacks
from archiver.codec.segment import SEGMENT_MAX
from archiver.digest import blake3_hex
from archiver.errors import ArchiverError, NotUnderstoodError, UnreadableError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from archiver.archive.packs.format import IndexEntry
    from archiver.storage.store import OpensFiles, Reader

Source = Literal["reread", "pack", "quarantine", "parity"]
"""Where in an archive an object was whole: ``reread`` is where it was to begin with, read once more."""
SOURCES: Final[tuple[Source, ...]] = ("reread", "pack", "quarantine", "parity")


_INDEXED_SECONDS: Final = 60.0


class Recovered(NamedTuple):
    """The plain bytes of an object, proven, and where they were; ``place`` is ``""`` for this archive."""

    plain: memoryview
    source: Source
    place: str = ""


class Attempt(NamedTuple):
    """What a recovery gave: None, if nothing here has the object whole.

    ``damaged`` are the packs in use that have it, and have it damaged.
    """

    recovered: Recovered | None
    damaged: tuple[str, ...]


class Recovery:
    """Takes objects out of one archive that ordinary reading did not give.

    Packs are opened anew each time: a repair may have put whole ones under the same names. One thread at a
    time is at work here, for each takes as much as a segment, a group of parity and a decoder.
    """

    def __init__(self, archive: Archive) -> None:
        self._store = archive.store
        self._info = archive.info
        self._lock = threading.Lock()
        self._packs: _KnownPacks | None = None
        self._quarantined: _KnownPacks | None = None
        self._indexed = float("-inf")

    def recover(self, digest: str, size: int, pack: str = "") -> Attempt:
        """Return an object of ``size`` plain bytes; ``pack`` is where it came out damaged, if known."""
        if not 0 < size <= SEGMENT_MAX:
            return Attempt(None, ())
        with self._lock:
            return self._recover(digest, size, pack)

    def _recover(self, digest: str, size: int, pack: str) -> Attempt:
        damaged: list[str] = []
        # Before any other is looked at: it may be whole by now, or have been a fault of the reading.
        own = [(pack, entry) for entry in self._entries_of(pack, digest)] if pack else []
        if (plain := self._first_whole(own, digest, size, damaged)) is not None:
            return Attempt(Recovered(plain, "reread"), ())
        packs = self._in_use()
        others = [place for place in packs.listed(digest) if place not in own]
        if (plain := self._first_whole(others, digest, size, damaged)) is not None:
            return Attempt(Recovered(plain, "pack"), tuple(damaged))
        quarantined = self._out_of_use().listed(digest)
        if (plain := self._first_whole(quarantined, digest, size, [])) is not None:
            return Attempt(Recovered(plain, "quarantine"), tuple(damaged))
        # Also those whose index is lost: what stood in it is known to nobody but parity.
        suspects = dict.fromkeys((*([pack] if pack else []), *damaged, *sorted(packs.unindexed)))
        for suspect in suspects:
            if (plain := self._by_parity(suspect, digest, size)) is not None:
                return Attempt(Recovered(plain, "parity"), tuple(damaged) or (suspect,))
        return Attempt(None, tuple(damaged) or tuple(suspects))

    def is_whole_in(self, pack: str, digest: str, size: int) -> bool:
        """Return whether one pack has an object whole, by its own index and read from the medium."""
        with self._lock:
            own = [(pack, entry) for entry in self._entries_of(pack, digest)]
            return self._first_whole(own, digest, size, []) is not None

    def forget(self) -> None:
        """Read the indexes of the packs anew when they are needed again, unless that was done just now.

        A pack that is lost has thousands of objects, and the indexes of all others take seconds.
        """
        with self._lock:
            if time.monotonic() - self._indexed >= _INDEXED_SECONDS:
                self._packs = self._quarantined = None

    # ---- packs as they are

    def _entries_of(self, pack: str, digest: str) -> list[IndexEntry]:
        """Return where the index of one pack has the object; nothing if it cannot be read."""
        try:
            with closing(_opened(self._store, layout.pack_name(pack))) as reader:
                entries = PackReader.stored(reader, pack).index()
        except (ArchiverError, FileNotFoundError):
            return []
        return [entry for entry in entries if entry.blake3 == digest]

    def _first_whole(
        self,
        places: Iterable[tuple[str, IndexEntry]],
        digest: str,
        size: int,
        damaged: list[str],
    ) -> memoryview | None:
        """Return the object from the first place that has it whole; add the packs that have it damaged."""
        for pack, entry in places:
            try:
                reader = _opened(self._store, located(pack)[1])
            except FileNotFoundError:
                continue
            except (UnreadableError, NotUnderstoodError):
                continue  # nothing is known about its bytes
            except ArchiverError:
                damaged.append(pack)
                continue
            with closing(reader):
                plain = _decoded(reader, pack, entry, size)
            if plain is not None and blake3_hex(plain) == digest:
                return plain
            damaged.append(pack)
        return None

    def _in_use(self) -> ObjectIndex:
        names = frozenset(layout.pack_of(name) or "" for name in self._store.list(layout.PACKS))
        if self._packs is None or self._packs.names != names:
            # Not the archive's own readers: those may be of files that were replaced since.
            opener = Archive(self._store, self._info)
            self._indexed = time.monotonic()
            self._packs = _KnownPacks(names, ObjectIndex(opener, sorted(names - {""})))
        return self._packs.objects

    def _out_of_use(self) -> ObjectIndex:
        opener = QuarantinedPacks(self._store)
        listed = opener.names()
        if self._quarantined is None or self._quarantined.names != frozenset(listed):
            self._quarantined = _KnownPacks(frozenset(listed), ObjectIndex(opener, listed))
        return self._quarantined.objects

    # ---- packs as they were

    def _by_parity(self, pack: str, digest: str, size: int) -> memoryview | None:
        """Return the object out of the pack that was, by what is left of it and its sidecar."""
        name = layout.pack_name(pack)
        try:
            with closing(MendedReader(_Fresh(self._store), name)) as mended:
                entries = PackReader.stored(mended, pack).index()
                for entry in entries:
                    if entry.blake3 == digest:
                        plain = _decoded(mended, pack, entry, size)
                        if plain is not None and blake3_hex(plain) == digest:
                            return plain
        except (ArchiverError, FileNotFoundError):
            pass
        return None


class _KnownPacks(NamedTuple):
    """What the indexes of packs of these names list."""

    names: frozenset[str]
    objects: ObjectIndex


class _Fresh:
    """A store whose files are read from the medium."""

    def __init__(self, store: OpensFiles) -> None:
        self._store = store

    def open(self, name: str) -> Reader:
        return _opened(self._store, name)


def _opened(store: OpensFiles, name: str) -> Reader:
    reader = store.open(name)
    reader.fresh()
    return reader


def _decoded(reader: Reader, pack: str, entry: IndexEntry, size: int) -> memoryview | None:
    """Return the plain bytes of an object; None unless it is whole."""
    out = np.empty(size, np.uint8)
    try:
        PackReader.stored(reader, f"Pack {pack[:16]}").read(entry, size, out)
    except ArchiverError:
        return None
    return out.data.cast("B")
