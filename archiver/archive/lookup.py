"""What an archive holds of an object or of a file, looked up in its own small files.

Packs list their objects, manifests their files, and the journal what happened. Of an archive that has
few of them this is quicker than to load SQL and ask the index, which may be left behind: whoever opens it
next brings it up to date. Either way gives the same answers, and each is only a hint.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from archiver.archive.events import name_of
from archiver.archive.layout import MANIFESTS, pack_name
from archiver.errors import DamageError, NotUnderstoodError, skip_damaged

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from archiver.archive.archive import Archive
    from archiver.archive.events import Event, KnownDetail
    from archiver.archive.ingest.object_store import Hints, PublishedPack
    from archiver.archive.packs.format import IndexEntry
    from archiver.archive.records import FileFacts, Manifest, Seal
    from archiver.archive.seals import Snapshot
    from archiver.digest import Blake3Hex
    from archiver.errors import OnDamage


# Loading SQLAlchemy takes 0.34 s of one core, and an import writes rows besides. Beside other work,
# where that took 0.5 s, it was 0.2 to 0.3 ms to look at a pack and read its index, and 2 to 3 µs for each
# object that it lists (about 100 bytes of index). What a manifest takes is a guess: 0.1 ms for 4 KiB.
PACKS_READ: Final = 256
"""Of so many packs at most the indexes are read,"""
INDEXES_READ: Final = 2 << 20
"""so many bytes of them together,"""
MANIFESTS_READ: Final = 1 << 20
"""and where files are looked up so many bytes of manifests, as they are stored."""
_LEAST_READ: Final = 4 << 10
"""As so many bytes counts a manifest that has fewer."""
FILES_KEPT: Final = 20_000
"""Of so many files at most a run keeps what manifests say: of half a kilobyte each."""


class FileKey(NamedTuple):
    """What upstream says of a file: its content's SHA-256 (LFS) or else its git blob's id."""

    size: int
    sha256: str = ""
    oid: str = ""


class HeldFile(NamedTuple):
    """A file that a snapshot has, under this path."""

    snapshot: str
    repository: str
    path: str


class Lookup(Protocol):
    """Where what is held is looked up, and told what is new. One thread at a time."""

    def hints(self) -> Hints:
        """Return where objects may lie, as it is now; threads may share it."""

    def held_files(self, keys: Collection[FileKey]) -> dict[FileKey, HeldFile]:
        """Return which of these files some snapshot has, and where; of several, the one sealed last.

        A key with a SHA-256 is looked up by it, any other by its git oid (which is that of the content
        only for files outside LFS); the size must agree as well.
        """

    def events(
        self, *, repository: str | None = None, kinds: Collection[type[KnownDetail]] = ()
    ) -> list[tuple[str, Event]]:
        """Return events with their ids, oldest first; of one repository, or of these kinds, if given."""

    def add_pack(self, pack: PublishedPack) -> None:
        """Note a pack that was published."""

    def add_snapshot(self, snapshot: Snapshot, manifest: Manifest) -> None:
        """Note a seal that was published, with its manifest."""


def indexes(
    archive: Archive, packs: Iterable[str], on_damage: OnDamage
) -> Iterator[tuple[str, int, tuple[IndexEntry, ...]]]:
    """Yield id, size in bytes and entries of each pack whose index is whole; others go to ``on_damage``.

    What only a newer version understands is passed over: it is not damaged, and of no use to this one.
    """
    for pack in packs:
        try:
            reader = archive.pack(pack)
            reader.require_understood(pack)
            yield pack, reader.size, reader.index()
        except NotUnderstoodError:
            continue
        except DamageError as error:
            on_damage(pack_name(pack), error)


class FilesLookup:
    """Looks up in the archive's files. What it is told of as new is there, and need not be noted.

    One serves a whole run: what has been read of a pack's index, or of a manifest, is not read again.
    """

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._index_sizes: dict[str, int] = {}
        self._entries: dict[str, tuple[IndexEntry, ...]] = {}
        self._files: dict[str, tuple[FileFacts, ...]] = {}
        """Those of manifests, by digest, as many as are kept."""

    def is_quick(self, *, manifests: bool) -> bool:
        """Return whether the archive's own files answer sooner than SQL is loaded.

        Say by ``manifests`` whether files are looked up too, by their digests, and not only objects.
        """
        store = self._archive.store
        if manifests:
            sizes = (store.stat(name) or 0 for name in store.list(MANIFESTS))
            if sum(max(size, _LEAST_READ) for size in sizes) > MANIFESTS_READ:
                return False
        packs = list(self._archive.packs())
        return len(packs) <= PACKS_READ and sum(map(self._index_size, packs)) <= INDEXES_READ

    def _index_size(self, pack: str) -> int:
        if pack not in self._index_sizes:
            try:
                self._index_sizes[pack] = self._archive.pack(pack).index_size()
            except DamageError:
                return 0  # it has nothing that could be read
        return self._index_sizes[pack]

    def hints(self) -> Hints:
        """Return where objects may lie, by the indexes of all packs."""
        packs = list(self._archive.packs())
        unread = (pack for pack in packs if pack not in self._entries)
        for pack, _, entries in indexes(self._archive, unread, skip_damaged):
            self._entries[pack] = entries
        return _IndexHints({pack: self._entries.get(pack, ()) for pack in packs})

    def held_files(self, keys: Collection[FileKey]) -> dict[FileKey, HeldFile]:
        """Return which of these files some snapshot has, as ``Lookup`` says."""
        if not keys:
            return {}
        by_sha256 = {FileKey(key.size, key.sha256): key for key in keys if key.sha256}
        by_oid = {FileKey(key.size, oid=key.oid): key for key in keys if key.oid and not key.sha256}
        held: dict[FileKey, HeldFile] = {}
        snapshots = self._archive.snapshots(skip_damaged)
        for snapshot in sorted(snapshots, key=lambda each: (each.seal.sealed, each.id)):
            for file in self._files_of(snapshot.seal):
                hits = [by_sha256.get(FileKey(file.size, file.sha256))]
                if not file.lfs:
                    hits.append(by_oid.get(FileKey(file.size, oid=file.oid)))
                for key in hits:
                    if key is not None:
                        held[key] = HeldFile(snapshot.id, snapshot.seal.repository, file.path)
        return held

    def _files_of(self, seal: Seal) -> tuple[FileFacts, ...]:
        """Return what a seal's manifest says of files, by falling path; nothing if it is damaged."""
        digest = seal.manifest.blake3
        if digest in self._files:
            return self._files[digest]
        try:
            facts = self._archive.manifest_facts(seal)
        except DamageError:
            return ()
        files = tuple(sorted(facts.files, key=lambda each: each.path, reverse=True))
        if sum(map(len, self._files.values())) + len(files) <= FILES_KEPT:
            self._files[digest] = files
        return files

    def events(
        self, *, repository: str | None = None, kinds: Collection[type[KnownDetail]] = ()
    ) -> list[tuple[str, Event]]:
        """Return events with their ids, oldest first; of one repository, or of these kinds, if given."""
        names = set(map(name_of, kinds))
        events = [
            (event_id, event)
            for event_id, event in self._archive.events(skip_damaged)
            if repository in {None, event.repository} and (not names or event.event in names)
        ]
        return sorted(events, key=lambda entry: (entry[1].time, entry[0]))

    def add_pack(self, pack: PublishedPack) -> None:
        """Note nothing."""

    def add_snapshot(self, snapshot: Snapshot, manifest: Manifest) -> None:
        """Note nothing."""


class _IndexHints:
    """Where objects may lie, by the entries of each pack's index."""

    def __init__(self, entries: Mapping[str, tuple[IndexEntry, ...]]) -> None:
        self._places: dict[str, list[tuple[str, IndexEntry]]] = {}
        for pack, listed in entries.items():
            for entry in listed:
                self._places.setdefault(entry.blake3, []).append((pack, entry))

    def locate(self, digest: Blake3Hex) -> list[tuple[str, IndexEntry]]:
        """Return packs and entries that may hold the object."""
        return self._places.get(digest, [])
