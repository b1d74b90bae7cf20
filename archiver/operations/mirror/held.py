"""What the archive has already: by the catalogue's hint, and then by the archive's own word."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from archiver.archive.layout import pack_of
from archiver.archive.packs.map import PackMap
from archiver.archive.packs.records import IndexEntry
from archiver.archive.place import own_place
from archiver.archive.pruning.history import CONDEMNING, condemned
from archiver.archive.publish import missing_packs
from archiver.catalogue import queries
from archiver.errors import DamageError

if TYPE_CHECKING:
    from archiver.archive.archive import Archive, Snapshot
    from archiver.archive.records import FileEntry, Selection
    from archiver.catalogue.database import Catalogue
    from archiver.digest import Blake3Hex
    from archiver.upstream.protocol import Listing


class CatalogueHints:
    """Where objects may lie, by the catalogue as it was when the run began.

    Most objects of a run are new, and a model may have 190,000: the beginnings of all known digests,
    8 bytes each, spare the database a question for nearly every new one.
    """

    def __init__(self, archive: Archive, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._condemned = condemned_packs(archive, catalogue)
        prefixes = np.frombuffer(queries.object_prefixes(catalogue), ">u8")
        self._prefixes = prefixes.astype(np.uint64)

    def _may_be_known(self, digest: Blake3Hex) -> bool:
        prefix = np.uint64(int(digest[: 2 * queries.PREFIX_BYTES], 16))
        at = int(np.searchsorted(self._prefixes, prefix))
        return at < len(self._prefixes) and bool(self._prefixes[at] == prefix)

    def locate(self, digest: Blake3Hex) -> list[tuple[str, IndexEntry]]:
        """Packs and entries that may hold the object."""
        if not self._may_be_known(digest):
            return []
        places = queries.locate(self._catalogue, [digest]).get(digest, [])
        return [
            (one.pack, IndexEntry(digest, one.offset, one.stored, one.size, one.codec))
            for one in places
            if one.pack not in self._condemned
        ]


def condemned_packs(archive: Archive, catalogue: Catalogue) -> frozenset[str]:
    """Packs that a prune run found unneeded: they may go soon, so nothing new should stand on them."""
    told = condemned(queries.events(catalogue, names=CONDEMNING), own_place(archive))
    return frozenset(pack for name in told if (pack := pack_of(name)))


class Held:
    """Which of a listing's files, or all of them together, are in the archive."""

    def __init__(self, archive: Archive, catalogue: Catalogue, listing: Listing) -> None:
        self._archive = archive
        self._catalogue = catalogue
        self._listing = listing
        self._condemned = condemned_packs(archive, catalogue)
        self._sources: dict[str, PackMap] = {}

    def snapshot(self, selection: Selection) -> Snapshot | None:
        """The snapshot that holds exactly this listing, if there is one."""
        wanted = {(file.path, file.size, file.sha256 or file.oid) for file in self._listing.files}
        for one in self._snapshots_of(self._listing.repository):
            if one.seal.revision != self._listing.revision or not self._listing.revision:
                continue
            if one.seal.selection != selection and not one.seal.selection.whole:
                continue
            if wanted <= self._has(one):
                return one
        return None

    def _has(self, snapshot: Snapshot) -> set[tuple[str, int, str]]:
        """What a snapshot holds, as upstream would list it; nothing if it is not whole any more."""
        if missing_packs(self._archive, snapshot.seal.packs):
            return set()
        try:
            entries = self._archive.manifest(snapshot.seal).files
        except DamageError:
            return set()
        return {(e.path, e.size, e.sha256 if e.lfs else e.oid or e.sha256) for e in entries}

    @cached_property
    def files(self) -> dict[str, FileEntry]:
        """Path -> entry of the files that are held whole, under whatever name."""
        keys = {
            file.path: queries.FileKey(file.size, file.sha256, "" if file.sha256 else file.oid)
            for file in self._listing.files
            if file.sha256 or (file.oid and not file.lfs)
        }
        found = queries.held_files(self._catalogue, keys.values())
        by_seal: dict[str, list[tuple[str, queries.HeldFile]]] = {}
        for path, key in keys.items():
            if key in found:
                by_seal.setdefault(found[key].snapshot, []).append((path, found[key]))
        entries: dict[str, FileEntry] = {}
        for rows in by_seal.values():
            entries.update(self._entries_of(rows))
        return entries

    def _entries_of(self, rows: list[tuple[str, queries.HeldFile]]) -> dict[str, FileEntry]:
        """Entries for files that a snapshot holds whole, as far as its packs are really there."""
        first = rows[0][1]
        seals = [one for one in self._snapshots_of(first.repository) if one.id == first.snapshot]
        if not seals:
            return {}
        try:
            manifest = self._archive.manifest(seals[0].seal)
        except DamageError:
            return {}
        lasting = (pack for pack, _ in seals[0].seal.packs if pack not in self._condemned)
        packs = PackMap(self._archive, lasting)
        files = {entry.path: entry for entry in manifest.files}
        listed = {file.path: file for file in self._listing.files}
        found = {}
        for path, held in rows:
            entry = files.get(held.path)
            if entry is not None and all(packs.find(digest) for _, digest in entry.segments):
                claim = listed[path]
                found[path] = msgspec.structs.replace(
                    entry, path=path, oid=claim.oid, lfs=claim.lfs
                )
                self._sources[path] = packs
        return found

    def place(self, path: str, digest: str) -> tuple[str, IndexEntry]:
        """Pack and entry of an object of a held file."""
        found = self._sources[path].find(digest)
        assert found is not None, "checked when the file was found held"
        return found

    def _snapshots_of(self, repository: str) -> list[Snapshot]:
        return self._archive.snapshots_of(repository, on_damage=lambda _name, _error: None)
