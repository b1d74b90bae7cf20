"""Which objects are wanted, and where in which files they stand: so they can be found outside packs."""

from __future__ import annotations

import os
from array import array
from bisect import bisect_right
from collections.abc import Mapping
from functools import cached_property
from sys import intern
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import msgspec
import numpy as np

from archiver.archive.manifests import tensors_of
from archiver.archive.packs.format import PREFIX_SIZE
from archiver.archive.packs.index import ObjectIndex, PackOpener
from archiver.archive.quarantine import QuarantinedPacks
from archiver.archive.records import canonical
from archiver.codec.segment import Effort, EncodedObject, encode
from archiver.digest import Blake3Hex, blake3_hex
from archiver.errors import ArchiverError, DamageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from archiver.archive.archive import Archive
    from archiver.archive.records import FileEntry, Source
    from archiver.archive.seals import Snapshot
    from archiver.buffers import Bytes


class Place(NamedTuple):
    """Where an object stands: in a file of a revision, ``offset`` bytes from its beginning."""

    title: str
    source: Source
    entry: FileEntry
    offset: int


class Need(msgspec.Struct, frozen=True):
    """An object that is wanted.

    Attributes:
        digest: Its BLAKE3.
        size: Its plain bytes.
        dtype: That of the tensor that it is a part of.
        places: Where it stands in files.
        stored: The bytes that it took in the pack that is to be made again, header included; 0 if
            that is not known.
    """

    digest: str
    size: int
    dtype: str | None = None
    places: tuple[Place, ...] = ()
    stored: int = 0

    def encoded(self, plain: Bytes) -> EncodedObject:
        """The object, encoded as it was before if that can be told from its size."""
        digest = Blake3Hex(self.digest)
        best = encode(plain, self.dtype, Effort.NORMAL, digest)
        if self.stored and _stored(best) != self.stored:
            other = encode(plain, self.dtype, Effort.FAST, digest)
            return other if _stored(other) == self.stored else best
        return best


def _stored(item: EncodedObject) -> int:
    return PREFIX_SIZE + len(canonical(item.header)) + item.stored


class Needs(Mapping[str, Need]):
    """The objects that are wanted, by digest, in file order.

    Hundreds of thousands can be missing at once: each is a few numbers, and made only when it is asked for.
    """

    def __init__(self) -> None:
        self._rows: dict[str, int] = {}
        """Where in ``_sizes`` and ``_first`` an object stands."""
        self._sizes = array("Q")
        self._first = array("q")
        """Its first place, as an index of the three below."""
        self._files = array("L")
        self._offsets = array("Q")
        self._next = array("q")
        """The next place of the same object; -1 at the last."""
        self._last: dict[int, int] = {}
        """The last place, of those that have several."""
        self._entries: list[_File] = []

    def add_file(self, title: str, source: Source, entry: FileEntry) -> None:
        """The objects that are added next stand in this file."""
        tensors = tensors_of(entry)
        begins = array("Q", (tensor.begin for tensor in tensors))
        ends = array("Q", (tensor.end for tensor in tensors))
        dtypes = [intern(tensor.dtype) for tensor in tensors]
        # Of its segments and tensors nothing else is needed; all files together may have 500,000.
        lean = msgspec.structs.replace(entry, segments=(), tensors=msgspec.UNSET)
        self._entries.append(_File(title, source, lean, begins, ends, dtypes))

    def add(self, digest: str, size: int, offset: int) -> None:
        """An object that stands ``offset`` bytes from the beginning of the file that was added last."""
        place = len(self._files)
        self._files.append(len(self._entries) - 1)
        self._offsets.append(offset)
        self._next.append(-1)
        row = self._rows.setdefault(digest, len(self._sizes))
        if row == len(self._sizes):
            self._sizes.append(size)
            self._first.append(place)
            return
        self._sizes[row] = size
        self._next[self._last.get(row, self._first[row])] = place
        self._last[row] = place

    def clear(self) -> None:
        """Forget them all: they are not needed any more, and what follows takes as much memory."""
        self._rows.clear()

    def files_of(self, digests: Iterable[str]) -> set[tuple[str, str]]:
        """The snapshots, by their titles, and the paths of the files that these objects stand in."""
        numbers = {number for digest in digests for number, _ in self._places(digest)}
        files = (self._entries[number] for number in numbers)
        return {(one.title, one.entry.path) for one in files}

    def _places(self, digest: str) -> Iterator[tuple[int, int]]:
        """The number of the file, and the offset, of each place of an object."""
        place = self._first[self._rows[digest]]
        while place >= 0:
            yield self._files[place], self._offsets[place]
            place = self._next[place]

    def __getitem__(self, digest: str) -> Need:
        size = self._sizes[self._rows[digest]]
        places = [(self._entries[number], offset) for number, offset in self._places(digest)]
        return Need(
            digest,
            size,
            places[0][0].dtype_at(places[0][1]),
            tuple(Place(one.title, one.source, one.entry, offset) for one, offset in places),
        )

    def __contains__(self, digest: object) -> bool:
        return digest in self._rows

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


class _File(NamedTuple):
    """A file, and where its tensors begin and end, and their dtypes."""

    title: str
    source: Source
    entry: FileEntry
    begins: array[int]
    ends: array[int]
    dtypes: list[str]

    def dtype_at(self, offset: int) -> str | None:
        """The dtype of the tensor that begins at or before the place; None outside of tensors."""
        at = bisect_right(self.begins, offset) - 1
        # Of several that begin here all but the last are empty.
        return self.dtypes[at] if at >= 0 and offset < self.ends[at] else None


def needs_of(archive: Archive, snapshots: Iterable[Snapshot], held: Callable[[str], bool]) -> Needs:
    """The objects that the snapshots name and that are not ``held``, in file order."""
    needs = Needs()
    for snapshot in snapshots:
        try:
            manifest = archive.manifest(snapshot.seal)
        except DamageError:
            continue  # nobody knows what it needs; its packs stay where they are
        for entry in manifest.files:
            offset, begun = 0, False
            for size, digest in entry.segments:
                if digest in needs or not held(digest):
                    if not begun:
                        needs.add_file(snapshot.title, manifest.source, entry)
                        begun = True
                    needs.add(digest, size, offset)
                offset += size
    return needs


# ---- Where single objects may come from: other packs, files out of use, other archives, plain folders.


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

    def __init__(self, shelf: PackOpener, packs: list[str], title: str) -> None:
        self.title = title
        self._shelf = shelf
        self._packs = packs

    @cached_property
    def _map(self) -> ObjectIndex:
        return ObjectIndex(self._shelf, self._packs)

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
    aside = QuarantinedPacks(archive.store)
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
