"""What an archive holds, looked up in its catalogue: of an archive with many packs, the quick way.

Its answers are those of :mod:`archiver.archive.lookup`, which reads the archive's own files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from archiver.archive.packs.format import IndexEntry
from archiver.catalogue import queries, updates

if TYPE_CHECKING:
    from collections.abc import Collection

    from archiver.archive.events import Event, KnownDetail
    from archiver.archive.ingest.object_store import Hints, PublishedPack
    from archiver.archive.lookup import FileKey, HeldFile
    from archiver.archive.records import Manifest
    from archiver.archive.seals import Snapshot
    from archiver.catalogue.database import Catalogue
    from archiver.digest import Blake3Hex


class CatalogueLookup:
    """Looks up in an open catalogue, and keeps it up to date with what is told as new."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def hints(self) -> Hints:
        """Return where objects may lie, by the catalogue as it is now."""
        return _CatalogueHints(self._catalogue)

    def held_files(self, keys: Collection[FileKey]) -> dict[FileKey, HeldFile]:
        """Return which of these files some snapshot has, as ``Lookup`` says."""
        return queries.held_files(self._catalogue, keys)

    def events(
        self, *, repository: str | None = None, kinds: Collection[type[KnownDetail]] = ()
    ) -> list[tuple[str, Event]]:
        """Return events with their ids, oldest first; of one repository, or of these kinds, if given."""
        return queries.events(self._catalogue, repository=repository, kinds=kinds)

    def add_pack(self, pack: PublishedPack) -> None:
        """Put a pack that was published."""
        updates.add_pack(self._catalogue, pack.pack, pack.size, pack.entries)

    def add_snapshot(self, snapshot: Snapshot, manifest: Manifest) -> None:
        """Put a seal that was published, with its manifest."""
        updates.add_snapshot(self._catalogue, snapshot.id, snapshot.seal, manifest)


class _CatalogueHints:
    """Where objects may lie.

    Most objects of a run are new, and a model may have 190,000: the beginnings of all known digests,
    8 bytes each, spare the database a question for nearly every new one.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        prefixes = np.frombuffer(queries.object_prefixes(catalogue), ">u8")
        self._prefixes = prefixes.astype(np.uint64)

    def _may_be_known(self, digest: Blake3Hex) -> bool:
        prefix = np.uint64(int(digest[: 2 * queries.PREFIX_BYTES], 16))
        at = int(np.searchsorted(self._prefixes, prefix))
        return at < len(self._prefixes) and bool(self._prefixes[at] == prefix)

    def locate(self, digest: Blake3Hex) -> list[tuple[str, IndexEntry]]:
        """Return packs and entries that may hold the object."""
        if not self._may_be_known(digest):
            return []
        places = queries.locate(self._catalogue, [digest]).get(digest, [])
        return [
            (place.pack, IndexEntry(digest, place.offset, place.stored, place.size, place.codec))
            for place in places
        ]
