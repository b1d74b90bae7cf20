"""Which pack holds which object, read from the packs' own indexes: the authority for every restore.

Where an index is lost or lies, the pack's frames are walked instead; where their names do not help, an
object is found by its content. The catalogue has no say here.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from archiver.archive import layout
from archiver.archive.packs.folders import digest_at, is_further_pack
from archiver.archive.packs.format import IndexEntry
from archiver.codec.transforms import CODECS
from archiver.errors import ArchiverError, DamageError, NotUnderstoodError, UnreadableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from archiver.archive.packs.reader import PackReader
    from archiver.buffers import Bytes
    from archiver.codec.segment import EncodedObject

Result = TypeVar("Result")
OnDamaged = Callable[[str, int, str, str], None]
"""Told of an object that was damaged in one pack and whole in another: its digest, its size, both packs."""
Bytes32 = npt.NDArray[np.uint8]
UInt32s = npt.NDArray[np.uint32]
UInt64s = npt.NDArray[np.uint64]
Rows = npt.NDArray[np.void]

_DIGEST_SIZE: Final = 32
_FRAMES_MAX: Final = max(codec.streams for codec in CODECS.values())
_TAIL_MAX: Final = max(codec.word for codec in CODECS.values()) - 1
_UINT32_MAX: Final = (1 << 32) - 1
_NO_EMAX: Final = -1
_EMAX_MAX: Final = 255
_NO_FRAMES: Final = (0,) * _FRAMES_MAX
_ROW: Final = struct.Struct(f"<QIIIhBB{_TAIL_MAX}s{_FRAMES_MAX}I")
_Row: Final = np.dtype(f"V{_ROW.size}")


def _row(entry: IndexEntry) -> bytes:
    """Return all of an entry but its digest, packed.

    What no object has that this version can decode is left out: then the object's own header counts, and
    says what is wrong with it.
    """
    frames, emax, tail = entry.frames, entry.emax, b""
    try:
        tail = bytes.fromhex(entry.tail)
    except ValueError:
        frames = ()
    emax = _NO_EMAX if emax is None else emax
    known = len(frames) <= _FRAMES_MAX and len(tail) <= _TAIL_MAX and _NO_EMAX <= emax <= _EMAX_MAX
    if not known or max(frames, default=0) > _UINT32_MAX:
        frames, emax, tail = (), _NO_EMAX, b""
    return _ROW.pack(
        entry.offset,
        min(entry.stored, _UINT32_MAX),
        min(entry.size, _UINT32_MAX),
        min(entry.codec, _UINT32_MAX),
        emax,
        len(frames),
        len(tail),
        tail,
        *frames,
        *_NO_FRAMES[len(frames) :],
    )


def _entry(digest: str, row: bytes) -> IndexEntry:
    """Return the entry that was packed."""
    offset, stored, size, codec, emax, frame_count, tail_size, tail, *frames = _ROW.unpack(row)
    return IndexEntry(
        digest,
        offset,
        stored,
        size,
        codec,
        tuple(frames[:frame_count]),
        None if emax == _NO_EMAX else emax,
        tail[:tail_size].hex(),
    )


class PackOpener(Protocol):
    """Where packs are opened, such as an archive."""

    def pack(self, pack: str) -> PackReader:
        """Return a shared reader of a pack; raise DamageError if the pack is missing."""


class _IndexTable(NamedTuple):
    """What the indexes of packs list, in arrays: some 90 bytes an object, where records take 500.

    Sorted by the first eight bytes of the digests, and of one object by the order of the packs.
    """

    prefixes: UInt64s = np.empty(0, np.uint64)
    digests: Bytes32 = np.empty((0, _DIGEST_SIZE), np.uint8)
    packs: UInt32s = np.empty(0, np.uint32)
    rows: Rows = np.empty(0, _Row)
    """Of each object everything else that its entry has."""

    @classmethod
    def of(cls, pack: int, entries: Sequence[IndexEntry]) -> _IndexTable:
        """Return what one pack lists."""
        raw = b"".join(bytes.fromhex(entry.blake3) for entry in entries)
        digests = np.frombuffer(raw, np.uint8).reshape(-1, _DIGEST_SIZE)
        return cls(
            digests[:, :8].copy().view(">u8").reshape(-1).astype(np.uint64),
            digests,
            np.full(len(entries), pack, np.uint32),
            np.frombuffer(b"".join(map(_row, entries)), _Row),
        )

    @classmethod
    def joined(cls, parts: Sequence[_IndexTable]) -> _IndexTable:
        """Return what several list, those of earlier packs first."""
        prefixes = np.concatenate([part.prefixes for part in parts])
        order = np.argsort(prefixes, kind="stable")
        table = cls(
            prefixes[order],
            np.empty((len(order), _DIGEST_SIZE), np.uint8),
            np.empty(len(order), np.uint32),
            np.empty(len(order), _Row),
        )
        # Part by part, so that nothing is there three times.
        places = np.empty(len(order), np.uint32)
        places[order] = np.arange(len(order), dtype=np.uint32)
        begin = 0
        for part in parts:
            end = begin + len(part.prefixes)
            at = places[begin:end]
            table.digests[at], table.packs[at], table.rows[at] = part.digests, part.packs, part.rows
            begin = end
        return table

    def places(self, digest: str) -> list[tuple[int, IndexEntry]]:
        """Return the numbers of the packs that list an object, each with its entry."""
        key = bytes.fromhex(digest)
        prefix = np.uint64(int.from_bytes(key[:8], "big"))
        places = []
        at = int(np.searchsorted(self.prefixes, prefix))
        while at < len(self.prefixes) and self.prefixes[at] == prefix:
            if self.digests[at].tobytes() == key:
                places.append((int(self.packs[at]), _entry(digest, self.rows[at].tobytes())))
            at += 1
        return places


class ObjectIndex:
    """Object -> pack and entry, over some packs.

    A pack whose index is lost is walked frame by frame; objects that walking does not find are missing
    here, as are those of a pack that is gone. Of an object that lies in several packs any good copy is
    read.

    What comes out of none of the packs is looked for in those that ``fallback`` gives, such as all others
    of the archive. It is called at most once, and only when something is missing or damaged.
    """

    def __init__(
        self,
        opener: PackOpener,
        packs: Iterable[str],
        fallback: Callable[[], Iterable[str]] | None = None,
        on_damaged: OnDamaged | None = None,
    ) -> None:
        self._opener = opener
        self._on_damaged = on_damaged
        self._fallback = fallback
        self._lock = threading.Lock()
        self._unreadable: ArchiverError | None = None
        self._table = _IndexTable()
        self._packs: list[str] = []
        self._by_frames_of: dict[str, dict[bytes, list[IndexEntry]]] = {}
        self._skipped: set[int] = set()
        """The numbers of the packs that are not read: missing, not readable, not understood."""
        self._lost_indexes: set[int] = set()
        """The numbers of the packs whose objects are known by their headers alone."""
        self._unlisted_places: dict[bytes, list[tuple[int, IndexEntry]]] | None = None
        self._misnamed_places: dict[bytes, list[tuple[int, IndexEntry]]] | None = None
        self._add(packs)

    def _add(self, packs: Iterable[str]) -> None:
        parts = [self._table]
        for pack in packs:
            parts.append(_IndexTable.of(len(self._packs), self._entries(pack)))
            self._packs.append(pack)
        self._table = _IndexTable.joined(parts)

    def _entries(self, pack: str) -> Sequence[IndexEntry]:
        try:
            reader = self._opener.pack(pack)
            reader.require_understood(located(pack)[0])
        except ArchiverError as error:
            self._skipped.add(len(self._packs))
            unknown = isinstance(error, (UnreadableError, NotUnderstoodError))
            if unknown or not isinstance(error, DamageError):
                self._unreadable = self._unreadable or error
            return ()
        try:
            return reader.index()
        except DamageError:
            self._lost_indexes.add(len(self._packs))
            return list(reader.walk())

    @property
    def unindexed(self) -> frozenset[str]:
        """The packs that have lost their index, of which objects may be missing here."""
        return frozenset(self._packs[number] for number in self._lost_indexes)

    def find(self, digest: str) -> tuple[str, IndexEntry] | None:
        """Return pack and entry of an object, or None."""
        return next(iter(self.listed(digest)), None)

    def locate(self, digest: str) -> tuple[str, IndexEntry] | None:
        """Return pack and entry of an object, from the packs of the fallback too; None if none lists it."""
        found = self.find(digest)
        if found is None:
            self._add_fallback()
            found = self.find(digest)
        return found

    def listed(self, digest: str) -> list[tuple[str, IndexEntry]]:
        """Return where the indexes of the packs so far have an object, in the order of the packs."""
        return [(self._packs[number], entry) for number, entry in self._table.places(digest)]

    def read(self, digest: str, size: int, out: Bytes | None = None) -> None:
        """Decode an object of ``size`` plain bytes into ``out``, or only to see that it is whole.

        Raises:
            DamageError: No copy of it is whole.
            ArchiverError: It is in no pack that may be read.
        """
        self._first_whole(
            digest, lambda pack, entry: self._opener.pack(pack).read(entry, size, out)
        )

    def copy(self, digest: str) -> EncodedObject:
        """Return an object as it is stored in a pack that has it whole; raise as ``read`` does."""
        return self._first_whole(digest, lambda pack, entry: self._opener.pack(pack).copy(entry))

    def _first_whole(self, digest: str, take: Callable[[str, IndexEntry], Result]) -> Result:
        """Return what ``take`` makes of the first copy that is whole."""
        damage: DamageError | None = None
        for pack, entry in self._places(digest):
            try:
                taken = take(pack, entry)
            except DamageError as error:
                error.pack, error.path = located(pack)
                damage = damage or error
                continue
            if damage is not None and self._on_damaged is not None:
                self._on_damaged(digest, entry.size, damage.pack, pack)
            return taken
        raise (
            self._unreadable
            or damage
            or DamageError(f"Object {digest} is in no readable pack.", object=digest)
        )

    def _add_fallback(self) -> None:
        """Take in the packs of ``fallback``, once."""
        with self._lock:
            fallback, self._fallback = self._fallback, None
            if fallback is not None:
                known = set(self._packs)
                self._add(pack for pack in fallback() if pack not in known)

    def _places(self, digest: str) -> Iterator[tuple[str, IndexEntry]]:
        """Yield where an object may lie, what costs least first.

        By the indexes of the packs; by those of the fallback; then, in case an index lies, where the
        frames of the packs have it; and last, if it is listed nowhere, where they have it under another
        name.
        """
        places = self.listed(digest)
        yield from places
        self._add_fallback()
        places += (more := [place for place in self.listed(digest) if place not in places])
        yield from more
        key = bytes.fromhex(digest)
        if places:
            pack, listed = places[0]
            for entry in self._by_frames(pack).get(key, ()):
                if entry != listed:
                    yield pack, entry
            return
        for search in (self._unlisted, self._misnamed):
            for number, entry in search().get(key, ()):
                yield self._packs[number], entry

    def _unlisted(self) -> dict[bytes, list[tuple[int, IndexEntry]]]:
        """Return the objects that frames have and no index lists; all packs are walked through once."""
        with self._lock:
            if self._unlisted_places is None:
                self._unlisted_places = {}
                for number, pack in enumerate(self._packs):
                    if number in self._skipped:
                        continue
                    with suppress(ArchiverError):
                        for entry in self._opener.pack(pack).walk():
                            if not self._table.places(entry.blake3):
                                key = bytes.fromhex(entry.blake3)
                                self._unlisted_places.setdefault(key, []).append((number, entry))
            return self._unlisted_places

    def _misnamed(self) -> dict[bytes, list[tuple[int, IndexEntry]]]:
        """Return the objects whose headers name another one, by their content.

        Decoded are those that no index vouches for: once each, in the packs that have lost theirs, and
        where a header names what is listed nowhere.
        """
        unlisted = self._unlisted()
        with self._lock:
            if self._misnamed_places is None:
                self._misnamed_places = {}
                doubtful = [place for places in unlisted.values() for place in places]
                for number in sorted(self._lost_indexes):
                    with suppress(ArchiverError):
                        walked = self._opener.pack(self._packs[number]).walk()
                        doubtful += ((number, entry) for entry in walked)
                for number, entry in doubtful:
                    with suppress(ArchiverError):
                        named = self._opener.pack(self._packs[number]).content(entry)
                        if named.blake3 != entry.blake3:
                            key = bytes.fromhex(named.blake3)
                            self._misnamed_places.setdefault(key, []).append((number, named))
            return self._misnamed_places

    def _by_frames(self, pack: str) -> dict[bytes, list[IndexEntry]]:
        """Return where the frames of a pack have its objects; it is walked through once."""
        with self._lock:
            if pack not in self._by_frames_of:
                entries: dict[bytes, list[IndexEntry]] = {}
                with suppress(ArchiverError):
                    for entry in self._opener.pack(pack).walk():
                        entries.setdefault(bytes.fromhex(entry.blake3), []).append(entry)
                self._by_frames_of = {pack: entries}  # one pack: it may have many objects
            return self._by_frames_of[pack]


def located(pack: str) -> tuple[str, str]:
    """Return id and name of a pack, given by its id, its name in quarantine, or its path elsewhere."""
    if is_further_pack(pack):
        return digest_at(pack), pack
    before = layout.quarantined_of(pack)
    if before is None:
        return pack, layout.pack_name(pack)
    return layout.pack_of(before.name) or "", pack
