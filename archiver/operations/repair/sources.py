"""Where a repair takes from, and in which order."""

from __future__ import annotations

import os
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np

from archiver.archive.archive import Archive
from archiver.archive.place_look import require_answer
from archiver.archive.repair.objects import FolderSource, ObjectSource, packs_of
from archiver.archive.repair.whole_files import (
    FileSource,
    Misplaced,
    aside_copies,
    from_parity,
    same_name,
)
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
    from archiver.archive.repair.objects import Need, Place
    from archiver.buffers import Bytes
    from archiver.codec.segment import EncodedObject
    from archiver.storage.store import Store
    from archiver.upstream.protocol import ByteStream, Upstream
    from archiver.upstream.remote_file import Listing, RemoteFile


class Places:
    """The archive's own files out of use, other archives, parity, plain folders, upstream."""

    def __init__(
        self, archive: Archive, folders: Sequence[Path], connect: Callable[[], Upstream] | None
    ) -> None:
        """Raise UsageError for a folder that is not there, or is the archive itself."""
        self._archive = archive
        opened = [(folder, open_other(folder, archive)) for folder in folders]
        self.replicas = [other for _, other in opened if other is not None]
        self._folders = [folder for folder, other in opened if other is None]
        self._upstream = UpstreamSource(connect) if connect else None
        self.misplaced = Misplaced(archive.store)

    @property
    def stores(self) -> list[Store]:
        """Those of the other archives."""
        return [replica.store for replica in self.replicas]

    def files(self) -> list[FileSource]:
        """Return where whole files may come from, the nearest first."""
        store = self._archive.store
        sources: list[FileSource] = [aside_copies(store, ""), self.misplaced]
        for other in self.stores:
            title = other.address
            sources += [same_name(other, title), aside_copies(other, f"{title}/")]
        # After every copy: parity has to compute a file from what is left of it.
        sources.append(from_parity(store, ""))
        return sources + [from_parity(other, f"{other.address}/") for other in self.stores]

    def objects(self) -> list[ObjectSource]:
        """Return where single objects may come from; upstream last, and only what nobody else has."""
        sources = packs_of(self._archive, "")
        for replica in self.replicas:
            sources += packs_of(replica, replica.store.address)
        sources += [FolderSource(str(path), partial(_files_in, path)) for path in self._folders]
        return [*sources, self._upstream] if self._upstream else sources

    @property
    def notes(self) -> tuple[str, ...]:
        """What kept upstream from helping."""
        return tuple(dict.fromkeys(self._upstream.notes)) if self._upstream else ()

    def close(self) -> None:
        """End what is open."""
        if self._upstream:
            self._upstream.close()


def _files_in(folder: Path) -> list[dict[str, str]]:
    """Return the files of a folder, and of each snapshot if it is a hub client's cache."""
    return [scan_snapshot(path).files for path in (folder, *snapshots_below(folder))]


# ---- Upstream as a source of lost objects: single stretches of files, by commit.


_HUB: Final = "huggingface"
_ATTEMPTS: Final = 2


class UpstreamSource:
    """Fetches what is lost, and nothing else; what upstream cannot give becomes a note.

    It must list the same commit, and the file with the same size and SHA-256. Every object is checked
    against its own BLAKE3.
    """

    title = "upstream"

    def __init__(self, connect: Callable[[], Upstream]) -> None:
        """``connect`` is asked once, when something is lost that nobody else has."""
        self._connect = connect
        self._upstream: Upstream | None = None
        self._listings: dict[tuple[str, str], Listing | None] = {}
        self._unreachable = False
        self._opened = ExitStack()
        self._stream: ByteStream | None = None
        self._at = ("", "", "", 0)
        self.notes: list[str] = []
        self.fetched = 0
        """Plain bytes that came from upstream."""

    def offers(self, need: Need) -> bool:
        """Return whether upstream lists the very file that the object is a part of."""
        return any(self._listed(place) for place in need.places)

    def fetch(self, need: Need) -> EncodedObject | None:
        """Return the object, encoded anew; None if upstream does not have it."""
        for place in need.places:
            listed = self._listed(place)
            plain = self._read(*listed, place, need) if listed else None
            if plain is not None:
                return need.encoded(plain)
        return None

    def _listed(self, place: Place) -> tuple[Listing, RemoteFile] | None:
        """Return what upstream lists at the place, if it is the file that the manifest names."""
        listing = self._listing(place.source) if place.source.upstream == _HUB else None
        if listing is None:
            return None
        for file in listing.files:
            if file.path == place.entry.path and _same(file, place.entry):
                return listing, file
        text = f"Upstream lists {printable(place.entry.path)} of {place.title} otherwise, or not."
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

    def _read(self, listing: Listing, file: RemoteFile, place: Place, need: Need) -> Bytes | None:
        """Return the object's bytes; what comes wrong is asked for once more."""
        plain = np.empty(need.size, np.uint8)
        for _ in range(_ATTEMPTS):
            try:
                self._fill(listing, file, place.offset, plain.data)
            except ArchiverError as error:
                self.close()
                self._failed(f"{printable(file.path)} of {place.title}", error)
                return None
            self.fetched += need.size
            if blake3_hex(plain.data) == need.digest:
                return plain
            self.close()
        self.notes.append(
            f"Upstream sends other bytes of {printable(file.path)} of {place.title} than it did, "
            f"from byte {place.offset} on."
        )
        return None

    def _fill(self, listing: Listing, file: RemoteFile, offset: int, view: memoryview) -> None:
        """Read a stretch; one that begins where the last one ended goes on with the same answer."""
        assert self._upstream is not None, "it was asked for the listing"
        at = (listing.repository, listing.revision, file.path, offset)
        if self._stream is None or at != self._at:
            self.close()
            self._stream = self._opened.enter_context(self._upstream.open(listing, file, offset))
        done = 0
        while done < len(view):
            got = self._stream.readinto(view[done:])
            if not got:
                break  # What is missing shows in the digest.
            done += got
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


# ---- Other archives, and plain folders, that a repair may take from.


def open_other(folder: Path, archive: Archive) -> Archive | None:
    """The archive in ``folder``; None if it is a plain folder.

    Raises UsageError if there is no such folder or it is the archive itself, UnknownFormatError for
    an archive of an unknown format, ArchiverError if its mount is dead.
    """
    require_answer(folder)
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder.", hint="Check the path; is the disk mounted?")
    own = archive.store.folder
    if own and os.path.realpath(folder) == os.path.realpath(own.path):
        raise UsageError(
            f"{folder} is the archive itself.",
            hint="Name another copy of it, or leave --from out: what is aside in it is used anyway.",
        )
    try:
        return Archive.open(folder)
    except UnknownFormatError:
        raise
    except NoArchiveError:
        return None
