"""Opening an archive's catalogue and bringing it up to what the archive's own files say."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from archiver.archive.layout import CATALOGUE, INFO, SNAPSHOTS, document_of, pack_name
from archiver.catalogue import queries, updates
from archiver.catalogue.database import Catalogue
from archiver.catalogue.errors import (
    CATALOGUE_FAULTS,
    CatalogueReadOnlyError,
    CatalogueUnusable,
)
from archiver.catalogue.rebuild import Counts, rebuild
from archiver.digest import blake3_hex
from archiver.errors import DamageError, explain_system_error
from archiver.storage.filesystem import free_bytes, has_range_locks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.archive.archive import Archive, OnDamage, Snapshot
    from archiver.archive.packs.records import IndexEntry
    from archiver.archive.records import Event, Manifest, Seal

_PLACE_DIGITS: Final = 16
_LEFT: Final = 8 << 20
"""With less room in bytes an index that is not there is made elsewhere."""


def _ignore(_name: str, _error: DamageError) -> None:
    """An audit reports damage; the index only leaves out what cannot be read."""


def catalogue_path(archive: Archive) -> Path:
    """Where the archive's catalogue lies: inside it, or in a folder of this user's if it cannot."""
    return next(_paths(archive), Path(archive.store.describe()) / CATALOGUE)


def _paths(archive: Archive) -> Iterator[Path]:
    """Where an index can be, the best first: SQLite needs a folder to write to, and locks."""
    root = Path(archive.store.describe())
    # Nobody locks this file, so that it may be asked.
    if os.access(root, os.W_OK) and has_range_locks(root / INFO) and _has_room(root):
        yield root / CATALOGUE
    # A copy of an archive has the same id, and may hold other packs: so the place is in the name too.
    place = blake3_hex(os.fsencode(os.path.realpath(root)))[:_PLACE_DIGITS]
    for folder in _private_folders():
        if _is_ours(folder):
            yield folder / f"{archive.info.archive}-{place}.sqlite"


def _has_room(root: Path) -> bool:
    """Whether an index is there, or making one does not take the last room of a disk."""
    if (root / CATALOGUE).exists():
        return True
    free = free_bytes(root)
    return free is None or free >= _LEFT


def _private_folders() -> Iterator[Path]:
    """Folders for files of this user, who may have no home."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    # Not Path.home, which fails for a user whom the system does not know.
    home = os.path.expanduser("~")  # noqa: PTH111
    if Path(cache or home).is_absolute():
        yield (Path(cache) if cache else Path(home) / ".cache") / "archiver"
    yield Path(tempfile.gettempdir()) / f"archiver-{os.geteuid()}"


def _is_ours(folder: Path) -> bool:
    """Whether nobody else can put files into the folder, which is made, and locks work there."""
    probe = folder / "locks"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        info = folder.lstat()
        if info.st_uid != os.geteuid() or not stat.S_ISDIR(info.st_mode) or info.st_mode & 0o022:
            return False
        probe.touch()
    except OSError:
        return False
    return has_range_locks(probe)


def open_current(archive: Archive) -> Catalogue:
    """The archive's catalogue, holding every pack, snapshot and event that is there now.

    It is only an index, and nothing waits for it: where its file cannot be used, another one is, in a
    folder of this user's, or in memory, also in the middle of a run.
    """
    for path in _paths(archive):
        try:
            catalogue = _opened(archive, path)
        except (*CATALOGUE_FAULTS, OSError):
            continue
        catalogue.replace_by(lambda: _in_memory(archive))
        return catalogue
    return _in_memory(archive)


def _opened(archive: Archive, path: Path) -> Catalogue:
    """The catalogue at ``path``, brought up to date; written anew if it cannot be."""
    try:
        catalogue = Catalogue.open(path)
        if not catalogue.read_only:
            return _refreshed(archive, catalogue)
        catalogue.close()  # another user's file, in a folder that we may write to
    except (CatalogueUnusable, CatalogueReadOnlyError):
        pass
    _rebuild_at(path, archive, _ignore)
    return _refreshed(archive, Catalogue.open(path))


def _refreshed(archive: Archive, catalogue: Catalogue) -> Catalogue:
    try:
        refresh(archive, catalogue)
    except BaseException:
        catalogue.close()
        raise
    return catalogue


def _in_memory(archive: Archive) -> Catalogue:
    return _refreshed(archive, Catalogue.in_memory())


class Rebuilt(NamedTuple):
    """Where a catalogue was written anew, and how many records it holds."""

    path: Path
    counts: Counts


def rebuild_from(archive: Archive, on_damage: OnDamage = _ignore) -> Rebuilt:
    """Write the catalogue anew from the archive's files; what cannot be read goes to ``on_damage``.

    Raises ArchiverError if it can be written nowhere.
    """
    failure: Exception | None = None
    for path in _paths(archive):
        try:
            return Rebuilt(path, _rebuild_at(path, archive, on_damage))
        except CATALOGUE_FAULTS as error:
            failure = failure or error
        except OSError as error:
            failure = failure or explain_system_error(error, "the catalogue was written")
    raise failure or CatalogueReadOnlyError(catalogue_path(archive))


def _rebuild_at(path: Path, archive: Archive, on_damage: OnDamage) -> Counts:
    return rebuild(
        path,
        _pack_rows(archive, archive.packs(), on_damage),
        _snapshot_rows(archive, archive.snapshots(on_damage), on_damage),
        archive.events(on_damage),
    )


def refresh(archive: Archive, catalogue: Catalogue) -> None:
    """Add what the archive has and the catalogue has not; forget packs and snapshots that are gone."""
    # What is known is asked first: a pack that another process adds in between is not "gone".
    known = queries.known_packs(catalogue)
    there = set(archive.packs())
    for gone in known - there:
        updates.forget_pack(catalogue, gone)
    for row in _pack_rows(archive, sorted(there - known), _ignore):
        updates.add_pack(catalogue, *row)
    held = queries.known_snapshots(catalogue)
    sealed = map(document_of, archive.store.list(SNAPSHOTS))
    for forgotten in held - {one.digest for one in sealed if one}:
        updates.forget_snapshot(catalogue, forgotten)
    new = (one for one in archive.snapshots(_ignore) if one.id not in held)
    for snapshot in _snapshot_rows(archive, new, _ignore):
        updates.add_snapshot(catalogue, *snapshot)
    noted = queries.known_events(catalogue)
    for event_id, event in _new_events(archive, noted):
        updates.add_event(catalogue, event_id, event)


def _new_events(archive: Archive, noted: set[str]) -> Iterator[tuple[str, Event]]:
    return (found for found in archive.events(_ignore) if found[0] not in noted)


def _pack_rows(
    archive: Archive, packs: Iterator[str] | list[str], on_damage: OnDamage
) -> Iterator[tuple[str, int, tuple[IndexEntry, ...]]]:
    for pack in packs:
        try:
            reader = archive.pack(pack)
            yield pack, reader.size, reader.index()
        except DamageError as error:
            on_damage(pack_name(pack), error)


def _snapshot_rows(
    archive: Archive, snapshots: Iterator[Snapshot], on_damage: OnDamage
) -> Iterator[tuple[str, Seal, Manifest]]:
    for snapshot in snapshots:
        try:
            yield snapshot.id, snapshot.seal, archive.manifest(snapshot.seal)
        except DamageError as error:
            on_damage(snapshot.title, error)
