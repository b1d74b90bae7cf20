"""Single objects: which ones are missing, where they stand in files, and who may have them whole.

An object that no whole pack has is known by its digest. The manifests say where it stands in which files,
so that it can also be found outside of packs: in plain folders, and upstream.
"""

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

from archiver.archive.manifests import DOCUMENT_DTYPE, tensors_of
from archiver.archive.packs.format import PREFIX_SIZE
from archiver.archive.packs.index import ObjectIndex, PackOpener
from archiver.archive.quarantine import QuarantinedPacks
from archiver.archive.records import canonical
from archiver.codec.segment import Effort, EncodedObject, encode
from archiver.digest import Blake3Hex, blake3_hex
from archiver.errors import ArchiverError, DamageError, skip_damaged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from archiver.archive.archive import Archive
    from archiver.archive.records import FileEntry, Source
    from archiver.archive.seals import Snapshot
    from archiver.buffers import Bytes


THIS_ARCHIVE: Final = "this archive"
"""The source of what comes from the archive's own packs, of which some may be damaged."""


class Occurrence(NamedTuple):
    """Where an object stands: in a file of a revision, ``offset`` bytes from its beginning."""

    title: str
    source: Source
    entry: FileEntry
    offset: int


class MissingObject(msgspec.Struct, frozen=True):
    """An object to be found again, because the pack that it should be in is damaged or gone.

    Attributes:
        digest: Its BLAKE3.
        size: Its plain bytes.
        dtype: That of the tensor that it is a part of.
        occurrences: Where it stands in files.
        stored: The bytes that it took in the pack that is to be made again, header included; 0 if
            that is not known.
    """

    digest: str
    size: int
    dtype: str | None = None
    occurrences: tuple[Occurrence, ...] = ()
    stored: int = 0

    def encoded(self, plain: Bytes) -> EncodedObject:
        """Return the object, encoded as it was before if that can be told from its size."""
        digest = Blake3Hex(self.digest)
        normal = encode(plain, self.dtype, Effort.NORMAL, digest)
        if self.stored and _stored_size(normal) != self.stored:
            fast = encode(plain, self.dtype, Effort.FAST, digest)
            return fast if _stored_size(fast) == self.stored else normal
        return normal


def _stored_size(encoded: EncodedObject) -> int:
    return PREFIX_SIZE + len(canonical(encoded.header)) + encoded.stored


class MissingObjects(Mapping[str, MissingObject]):
    """The missing objects, by digest, in file order.

    Hundreds of thousands can be missing at once: each is a few numbers, and becomes a record only when it
    is asked for.
    """

    def __init__(self) -> None:
        self._rows: dict[str, int] = {}
        """Where in ``_sizes`` and ``_first`` an object stands."""
        self._sizes = array("Q")
        self._first = array("q")
        """Its first occurrence, as an index of the three below."""
        self._file_numbers = array("L")
        self._offsets = array("Q")
        self._next = array("q")
        """The next occurrence of the same object; -1 at the last."""
        self._last: dict[int, int] = {}
        """The last occurrence, of those objects that have several."""
        self._files: list[_File] = []

    def add_file(self, title: str, source: Source, entry: FileEntry) -> None:
        """Take the objects that are added next as those of this file."""
        tensors = tensors_of(entry)
        begins = array("Q", (tensor.begin for tensor in tensors))
        ends = array("Q", (tensor.end for tensor in tensors))
        dtypes = [intern(tensor.dtype) for tensor in tensors]
        # Of its segments and tensors nothing else is needed; all files together may have 500,000.
        lean = msgspec.structs.replace(entry, segments=(), tensors=msgspec.UNSET)
        self._files.append(_File(title, source, lean, begins, ends, dtypes))

    def add(self, digest: str, size: int, offset: int) -> None:
        """Add an object that stands ``offset`` bytes from the beginning of the file added last."""
        occurrence = len(self._file_numbers)
        self._file_numbers.append(len(self._files) - 1)
        self._offsets.append(offset)
        self._next.append(-1)
        row = self._rows.setdefault(digest, len(self._sizes))
        if row == len(self._sizes):
            self._sizes.append(size)
            self._first.append(occurrence)
            return
        self._sizes[row] = size
        if self._first[row] < 0:
            self._first[row] = occurrence
            return
        self._next[self._last.get(row, self._first[row])] = occurrence
        self._last[row] = occurrence

    def add_loose(self, digest: str, size: int) -> None:
        """Add an object that stands in no file: a piece of a manifest."""
        row = self._rows.setdefault(digest, len(self._sizes))
        if row == len(self._sizes):
            self._sizes.append(size)
            self._first.append(-1)

    def clear(self) -> None:
        """Forget them all: they are not needed any more, and what follows takes as much memory."""
        self._rows.clear()

    def files_of(self, digests: Iterable[str]) -> set[tuple[str, str]]:
        """Return the files that these objects stand in: the title of the snapshot, and the path."""
        numbers = {number for digest in digests for number, _ in self._occurrences(digest)}
        return {(self._files[number].title, self._files[number].entry.path) for number in numbers}

    def _occurrences(self, digest: str) -> Iterator[tuple[int, int]]:
        """Return the number of the file, and the offset, of each occurrence of an object."""
        occurrence = self._first[self._rows[digest]]
        while occurrence >= 0:
            yield self._file_numbers[occurrence], self._offsets[occurrence]
            occurrence = self._next[occurrence]

    def __getitem__(self, digest: str) -> MissingObject:
        size = self._sizes[self._rows[digest]]
        places = [(self._files[number], offset) for number, offset in self._occurrences(digest)]
        if not places:
            return MissingObject(digest, size, DOCUMENT_DTYPE)
        first, first_offset = places[0]
        return MissingObject(
            digest,
            size,
            first.dtype_at(first_offset),
            tuple(Occurrence(file.title, file.source, file.entry, at) for file, at in places),
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
        """Return the dtype of the tensor that the offset lies in; None outside of tensors."""
        at = bisect_right(self.begins, offset) - 1
        # Of several that begin here all but the last are empty.
        return self.dtypes[at] if at >= 0 and offset < self.ends[at] else None


def missing_objects(
    archive: Archive, snapshots: Iterable[Snapshot], is_held: Callable[[str], bool]
) -> MissingObjects:
    """Return the objects that the snapshots name and that are not held, in file order."""
    missing = MissingObjects()
    for snapshot in snapshots:
        for size, digest in snapshot.seal.manifest.copies:
            if digest not in missing and not is_held(digest):
                missing.add_loose(digest, size)
        try:
            manifest = archive.manifest(snapshot.seal)
        except DamageError:
            continue  # nobody knows what it needs; its packs stay where they are
        for entry in manifest.files:
            offset, file_added = 0, False
            for size, digest in entry.segments:
                if digest in missing or not is_held(digest):
                    if not file_added:
                        missing.add_file(snapshot.title, manifest.source, entry)
                        file_added = True
                    missing.add(digest, size, offset)
                offset += size
    return missing


class ObjectSource(Protocol):
    """Somewhere that objects may be had from."""

    title: str
    """What it is called in a report."""

    def offers(self, missing: MissingObject) -> bool:
        """Return whether it says that it has the object; for a dry run."""

    def fetch(self, missing: MissingObject) -> EncodedObject | None:
        """Return the object, checked against its BLAKE3, ready to be stored; None if it is not here."""


class PackSource:
    """Packs, whatever else may be wrong with them."""

    def __init__(self, opener: PackOpener, packs: list[str], title: str) -> None:
        self.title = title
        self._opener = opener
        self._packs = packs

    @cached_property
    def _map(self) -> ObjectIndex:
        return ObjectIndex(self._opener, self._packs)

    def offers(self, missing: MissingObject) -> bool:
        """Return whether a pack has it whole."""
        return self.fetch(missing) is not None

    def fetch(self, missing: MissingObject) -> EncodedObject | None:
        """Return the object as it is stored there."""
        if self._map.find(missing.digest) is None:
            return None
        try:
            encoded = self._map.copy(missing.digest)
        except (ArchiverError, ValueError):
            return None
        return encoded if encoded.header.size == missing.size else None


def pack_sources(archive: Archive, title: str) -> list[ObjectSource]:
    """Return the packs of an archive, and then those that it has in quarantine or trash."""
    quarantined = QuarantinedPacks(archive.store)
    return [
        PackSource(archive, list(archive.packs()), title or THIS_ARCHIVE),
        PackSource(quarantined, quarantined.names(), f"{title} quarantine or trash".lstrip()),
    ]


class ManifestSource:
    """The manifests of an archive, of whose JSON packs have a copy."""

    title = "the manifest"

    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    @cached_property
    def _pieces(self) -> dict[str, tuple[Snapshot, int]]:
        """Object -> a snapshot that names it as a piece of its manifest, and where the piece begins."""
        pieces = {}
        for snapshot in self._archive.snapshots(on_damage=skip_damaged):
            at = 0
            for size, digest in snapshot.seal.manifest.copies:
                pieces[digest] = (snapshot, at)
                at += size
        return pieces

    def offers(self, missing: MissingObject) -> bool:
        """Return whether it is a piece of a manifest that is whole."""
        return self._plain(missing) is not None

    def fetch(self, missing: MissingObject) -> EncodedObject | None:
        """Return the object, encoded anew."""
        plain = self._plain(missing)
        if plain is None:
            return None
        return msgspec.structs.replace(missing, dtype=DOCUMENT_DTYPE).encoded(plain)

    def _plain(self, missing: MissingObject) -> Bytes | None:
        if missing.digest not in self._pieces:
            return None
        snapshot, at = self._pieces[missing.digest]
        try:
            document = self._archive.manifest_bytes(snapshot.seal)
        except ArchiverError:
            return None
        plain = np.frombuffer(document, np.uint8)[at : at + missing.size]
        return plain if blake3_hex(plain.data) == missing.digest else None


class FolderSource:
    """A plain folder, such as a restored one, or a hub client's cache; also where it is damaged.

    ``scan`` gives, for the folder and for each snapshot in it, the path of each file and where it lies.
    """

    def __init__(self, title: str, scan: Callable[[], list[dict[str, str]]]) -> None:
        self.title = title
        self._scan = scan

    @cached_property
    def _snapshots(self) -> list[dict[str, str]]:
        return self._scan()

    def offers(self, missing: MissingObject) -> bool:
        """Return whether a file has it at the place where the manifest says."""
        return self._plain(missing) is not None

    def fetch(self, missing: MissingObject) -> EncodedObject | None:
        """Return the object, encoded anew."""
        plain = self._plain(missing)
        return None if plain is None else missing.encoded(plain)

    def _plain(self, missing: MissingObject) -> Bytes | None:
        for occurrence in missing.occurrences:
            for files in self._snapshots:
                path = files.get(occurrence.entry.path)
                plain = _read_range(path, occurrence.offset, missing.size) if path else None
                if plain is not None and blake3_hex(plain.data) == missing.digest:
                    return plain
        return None


def _read_range(path: str, offset: int, size: int) -> Bytes | None:
    """Return a range of a file; None if it cannot be read or is not there."""
    plain, done = np.empty(size, np.uint8), 0
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
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
