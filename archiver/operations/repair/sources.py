"""Where a repair takes from, and in which order.

Nearest first: files of the archive in quarantine or trash, or under another's name; other archives; parity,
which has to compute; for single objects also plain folders, and at last upstream.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np

from archiver.archive.archive import Archive
from archiver.archive.packs.folders import PackFolders
from archiver.archive.place_look import require_answer
from archiver.archive.repair.objects import (
    FolderSource,
    ManifestSource,
    ObjectSource,
    PackSource,
    pack_sources,
)
from archiver.archive.repair.stored_files import (
    FileSource,
    MisnamedFiles,
    from_pack_folder,
    from_packs,
    from_parity,
    from_quarantine,
    same_name,
)
from archiver.archive.vouching import HUBS
from archiver.digest import blake3_hex
from archiver.errors import (
    ArchiverError,
    NetworkError,
    NoArchiveError,
    UnknownFormatError,
    UsageError,
)
from archiver.text import printable
from archiver.upstream.hub_cache import scan_snapshot, snapshots_below

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from archiver.archive.records import FileEntry, Source
    from archiver.archive.repair.objects import MissingObject, Occurrence
    from archiver.buffers import Bytes
    from archiver.codec.segment import EncodedObject
    from archiver.storage.store import Store
    from archiver.upstream.protocol import ByteStream, Upstream
    from archiver.upstream.remote_file import Listing, RemoteFile


class RepairSources:
    """The archive's own files out of use, other archives, parity, plain folders, upstream."""

    def __init__(
        self, archive: Archive, folders: Sequence[Path], connect: Callable[[], Upstream] | None
    ) -> None:
        """Raise UsageError for a folder that is not there, or is the archive itself."""
        self._archive = archive
        opened = [(folder, _open_archive(folder, archive)) for folder in folders]
        self.replicas = [replica for _, replica in opened if replica is not None]
        self._folders = [folder for folder, replica in opened if replica is None]
        self._upstream = UpstreamSource(connect) if connect else None
        self.misnamed = MisnamedFiles(archive.store)

    @property
    def stores(self) -> list[Store]:
        """Return those of the other archives."""
        return [replica.store for replica in self.replicas]

    def files(self) -> list[FileSource]:
        """Return where whole files may come from, the nearest first."""
        store = self._archive.store
        sources: list[FileSource] = [from_quarantine(store, ""), self.misnamed]
        for replica in self.stores:
            title = replica.address
            sources += [same_name(replica, title), from_quarantine(replica, f"{title}/")]
        sources += [from_pack_folder(PackFolders([path]), str(path)) for path in self._folders]
        # After every copy: parity has to compute a file from what is left of it.
        sources.append(from_parity(store, ""))
        sources += [from_parity(each, f"{each.address}/") for each in self.stores]
        # At last: what is compressed anew need not be the file that a sidecar is of.
        sources.append(from_packs(self._archive, "its copy in packs"))
        return sources + [
            from_packs(each, f"{each.store.address}, its copy in packs") for each in self.replicas
        ]

    def objects(self) -> list[ObjectSource]:
        """Return where single objects may come from; upstream last, and only what nobody else has."""
        sources = pack_sources(self._archive, "")
        for replica in self.replicas:
            sources += pack_sources(replica, replica.store.address)
        for path in self._folders:
            packs = PackFolders([path])
            sources.append(PackSource(packs, list(packs.packs()), str(path)))
        sources.append(ManifestSource(self._archive))
        sources += [ManifestSource(replica) for replica in self.replicas]
        sources += [FolderSource(str(path), partial(_files_in, path)) for path in self._folders]
        return [*sources, self._upstream] if self._upstream else sources

    @property
    def notes(self) -> tuple[str, ...]:
        """Return what kept upstream from helping."""
        return tuple(dict.fromkeys(self._upstream.notes)) if self._upstream else ()

    def close(self) -> None:
        """End what is open."""
        if self._upstream:
            self._upstream.close()


def _open_archive(folder: Path, archive: Archive) -> Archive | None:
    """Return the archive in ``folder``; None if it is a plain folder.

    Raise UsageError if there is no such folder or it is the archive itself, UnknownFormatError for
    an archive of an unknown format, ArchiverError if its mount is dead.
    """
    require_answer(folder)
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder.", hint="Check the path; is the disk mounted?")
    own = archive.store.folder
    if own and os.path.realpath(folder) == os.path.realpath(own.path):
        raise UsageError(
            f"{folder} is the archive itself.",
            hint="Name another copy of it, or leave --from out: its quarantine and trash are used anyway.",
        )
    try:
        return Archive.open(folder)
    except UnknownFormatError:
        raise
    except NoArchiveError:
        return None


def _files_in(folder: Path) -> list[dict[str, str]]:
    """Return the files of a folder, and of each snapshot if it is a hub client's cache."""
    return [scan_snapshot(path).files for path in (folder, *snapshots_below(folder))]


_ATTEMPTS: Final = 2


class UpstreamSource:
    """Upstream: single ranges of files, by commit. What it cannot give becomes a note.

    It must list the same commit, and the file with the same size and SHA-256. Every object is checked
    against its own BLAKE3.
    """

    title = "upstream"

    def __init__(self, connect: Callable[[], Upstream]) -> None:
        """Call ``connect`` once, when something is lost that nobody else has."""
        self._connect = connect
        self._upstream: Upstream | None = None
        self._listings: dict[tuple[str, str], Listing | None] = {}
        self._unreachable = False
        self._opened = ExitStack()
        self._stream: ByteStream | None = None
        self._at = ("", "", "", 0)
        self.notes: list[str] = []

    def offers(self, missing: MissingObject) -> bool:
        """Return whether upstream lists the very file that the object is a part of."""
        return any(self._listed(occurrence) for occurrence in missing.occurrences)

    def fetch(self, missing: MissingObject) -> EncodedObject | None:
        """Return the object, encoded anew; None if upstream does not have it."""
        for occurrence in missing.occurrences:
            listed = self._listed(occurrence)
            plain = self._read(*listed, occurrence, missing) if listed else None
            if plain is not None:
                return missing.encoded(plain)
        return None

    def _listed(self, occurrence: Occurrence) -> tuple[Listing, RemoteFile] | None:
        """Return what upstream lists where the object stands, if it is the file that the manifest names."""
        listing = self._listing(occurrence.source) if occurrence.source.upstream in HUBS else None
        if listing is None:
            return None
        for file in listing.files:
            if file.path == occurrence.entry.path and _same(file, occurrence.entry):
                return listing, file
        text = f"Upstream lists {printable(occurrence.entry.path)} of {occurrence.title} otherwise, or not."
        self.notes.append(text)
        return None

    def _listing(self, source: Source) -> Listing | None:
        key = (source.repository, source.revision)
        if key not in self._listings:
            self._listings[key] = self._ask(*key)
        return self._listings[key]

    def _ask(self, repository: str, revision: str) -> Listing | None:
        if self._unreachable:
            return None
        title = f"{repository}@{revision[:12]}"
        try:
            self._upstream = self._upstream or self._connect()
            listing = self._upstream.list(repository, revision)
        except ArchiverError as error:
            self._failed(title, error)
            return None
        if listing.revision == revision:
            return listing
        self.notes.append(f"Upstream gives another commit for {title}: it changed.")
        return None

    def _read(
        self, listing: Listing, file: RemoteFile, occurrence: Occurrence, missing: MissingObject
    ) -> Bytes | None:
        """Return the object's bytes; what comes wrong is asked for once more."""
        plain = np.empty(missing.size, np.uint8)
        for _ in range(_ATTEMPTS):
            try:
                self._fill(listing, file, occurrence.offset, plain.data)
            except ArchiverError as error:
                self.close()
                self._failed(f"{printable(file.path)} of {occurrence.title}", error)
                return None
            if blake3_hex(plain.data) == missing.digest:
                return plain
            self.close()
        self.notes.append(
            f"Upstream sends other bytes of {printable(file.path)} of {occurrence.title} than it did, "
            f"from byte {occurrence.offset} on."
        )
        return None

    def _fill(self, listing: Listing, file: RemoteFile, offset: int, view: memoryview) -> None:
        """Read a range; one that begins where the last one ended goes on with the same answer."""
        assert self._upstream is not None, "it was asked for the listing"
        at = (listing.repository, listing.revision, file.path, offset)
        if self._stream is None or at != self._at:
            self.close()
            self._stream = self._opened.enter_context(self._upstream.open(listing, file, offset))
        done = 0
        while done < len(view):
            count = self._stream.readinto(view[done:])
            if not count:
                break  # What is missing shows in the digest.
            done += count
        self._at = (*at[:3], offset + done)

    def close(self) -> None:
        """End the last answer; another read begins a new one."""
        self._stream = None
        self._opened.close()

    def _failed(self, what: str, error: ArchiverError) -> None:
        self._unreachable = self._unreachable or isinstance(error, NetworkError)
        self.notes.append(f"Upstream, {what}: {error.message}")


def _same(file: RemoteFile, entry: FileEntry) -> bool:
    digests = [(file.sha256, entry.sha256), (file.oid, entry.oid)]
    return file.size == entry.size and all(
        left == right for left, right in digests if left and right
    )
