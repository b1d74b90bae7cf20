"""The catalogue of an archive: opened and brought up to date, or written anew from the archive's files.

It is only an index, so nothing waits for it. A file that is damaged, foreign or of another version is
replaced. Where none can lie in the archive, one lies in a folder of this user's, or in memory.
"""

from __future__ import annotations

import os
import stat
import tempfile
import time
import uuid
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from archiver.archive.layout import CATALOGUE, INFO, PACKS, SNAPSHOTS, document_of, pack_name
from archiver.archive.lookup import indexes
from archiver.catalogue import queries, updates
from archiver.catalogue.database import Catalogue, batches, replace_file
from archiver.catalogue.sqlite_file import (
    CATALOGUE_FAULTS,
    CatalogueReadOnlyError,
    CatalogueUnusable,
    may_replace,
    remove_all,
)
from archiver.digest import blake3_hex
from archiver.errors import (
    DamageError,
    OnDamage,
    explain_system_error,
    skip_damaged,
)
from archiver.storage.filesystem import free_bytes, has_range_locks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from sqlalchemy import Connection

    from archiver.archive.archive import Archive
    from archiver.archive.events import Event
    from archiver.archive.packs.format import IndexEntry
    from archiver.archive.records import Manifest, Seal
    from archiver.archive.seals import Snapshot
    from archiver.progress import Progress

Item = TypeVar("Item")

_PLACE_DIGITS: Final = 16
_ROOM_MIN: Final = 8 << 20
"""With less room in bytes an index that is not there is made elsewhere."""
_NEW_SUFFIX: Final = ".new"
_ABANDONED_SECONDS: Final = 24 * 3600.0
"""After these a half-written file is taken to be a killed run's."""
_EVENTS_AT_ONCE: Final = 200
"""Events are small enough to share a transaction with so many others."""


# ---- where it lies


def catalogue_path(archive: Archive) -> Path:
    """Return where the archive's catalogue lies: inside it, or in a folder of this user's if it cannot."""
    usable = next(_usable_paths(archive), None)
    if usable is not None:
        return usable
    own = archive.store.folder
    return own.path / CATALOGUE if own else next(_private_folders()) / _private_name(archive)


def _usable_paths(archive: Archive) -> Iterator[Path]:
    """Give where an index can be, the best first: SQLite needs a folder to write to, and locks."""
    own = archive.store.folder
    root = own.path if own else None
    # Nobody locks this file, so that it may be asked.
    if root and os.access(root, os.W_OK) and has_range_locks(root / INFO) and _has_room(root):
        yield root / CATALOGUE
    for folder in _private_folders():
        if _is_private(folder):
            yield folder / _private_name(archive)


def _private_name(archive: Archive) -> str:
    """Return the name of the index in a folder of this user's.

    A copy of an archive has the same id, and may hold other packs: so the place is in the name too.
    """
    own = archive.store.folder
    place = os.path.realpath(own.path) if own else archive.store.address
    return f"{archive.info.archive}-{blake3_hex(os.fsencode(place))[:_PLACE_DIGITS]}.sqlite"


def _has_room(root: Path) -> bool:
    """Return whether an index is there, or making one does not take the last room of a disk."""
    if (root / CATALOGUE).exists():
        return True
    free = free_bytes(root)
    return free is None or free >= _ROOM_MIN


def _private_folders() -> Iterator[Path]:
    """Give folders for files of this user, who may have no home."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    # Not Path.home, which fails for a user whom the system does not know.
    home = os.path.expanduser("~")  # noqa: PTH111
    if Path(cache or home).is_absolute():
        yield (Path(cache) if cache else Path(home) / ".cache") / "archiver"
    yield Path(tempfile.gettempdir()) / f"archiver-{os.geteuid()}"


def _is_private(folder: Path) -> bool:
    """Return whether nobody else can put files into the folder, which is made, and locks work there."""
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


# ---- opened and up to date


def open_catalogue(archive: Archive, progress: Progress) -> Catalogue:
    """Return the archive's catalogue, with every pack, snapshot and event that is there now.

    ``progress`` is told if it has to be written anew. Where its file cannot be used, another one is, in a
    folder of this user's, or in memory, also in the middle of a run.
    """
    for path in _usable_paths(archive):
        try:
            catalogue = _open_at(path, archive, progress)
        except (*CATALOGUE_FAULTS, OSError):
            continue
        catalogue.fall_back_on(lambda: _refreshed(archive, Catalogue.in_memory()))
        return catalogue
    return _refreshed(archive, Catalogue.in_memory())


def _open_at(path: Path, archive: Archive, progress: Progress) -> Catalogue:
    """Return the catalogue at ``path``, brought up to date; written anew if it cannot be."""
    try:
        catalogue = Catalogue.open(path)
        if not catalogue.read_only:
            return _refreshed(archive, catalogue)
        catalogue.close()  # another user's file, in a folder that we may write to
    except (CatalogueUnusable, CatalogueReadOnlyError):
        pass
    _rebuild_at(path, archive, progress, skip_damaged)
    return _refreshed(archive, Catalogue.open(path))


def _refreshed(archive: Archive, catalogue: Catalogue) -> Catalogue:
    """Return the catalogue with what the archive has and without packs and snapshots that are gone."""
    try:
        # What is known is asked first: a pack that another process adds in between is not "gone".
        known = queries.known_packs(catalogue)
        packs = set(archive.packs())
        for pack in known - packs:
            updates.forget_pack(catalogue, pack)
        for row in indexes(archive, sorted(packs - known), skip_damaged):
            updates.add_pack(catalogue, *row)
        known = queries.known_snapshots(catalogue)
        seals = map(document_of, archive.store.list(SNAPSHOTS))
        for snapshot_id in known - {seal.digest for seal in seals if seal}:
            updates.forget_snapshot(catalogue, snapshot_id)
        snapshots = (
            snapshot for snapshot in archive.snapshots(skip_damaged) if snapshot.id not in known
        )
        for snapshot in _snapshot_rows(archive, snapshots, skip_damaged):
            updates.add_snapshot(catalogue, *snapshot)
        known_events = queries.known_events(catalogue)
        for event_id, event in archive.events(skip_damaged):
            if event_id not in known_events:
                updates.add_event(catalogue, event_id, event)
    except BaseException:
        catalogue.close()
        raise
    return catalogue


# ---- written anew


class Counts(NamedTuple):
    """How many records went into a new catalogue; one that was given twice counts once."""

    packs: int
    snapshots: int
    events: int


class Rebuilt(NamedTuple):
    """Where a catalogue was written anew, and how many records it holds."""

    path: Path
    counts: Counts


def rebuild_catalogue(
    archive: Archive, progress: Progress, on_damage: OnDamage = skip_damaged
) -> Rebuilt:
    """Write the catalogue anew from the archive's files; what cannot be read goes to ``on_damage``.

    Raise ArchiverError if it can be written nowhere.
    """
    failure: Exception | None = None
    for path in _usable_paths(archive):
        try:
            return Rebuilt(path, _rebuild_at(path, archive, progress, on_damage))
        except CATALOGUE_FAULTS as error:
            failure = failure or error
        except OSError as error:
            failure = failure or explain_system_error(error, "the catalogue was written")
    raise failure or CatalogueReadOnlyError(catalogue_path(archive))


def _rebuild_at(path: Path, archive: Archive, progress: Progress, on_damage: OnDamage) -> Counts:
    packs = _counted(archive, archive.packs(), PACKS, pack_name, progress)
    snapshots = _counted(
        archive, archive.snapshots(on_damage), SNAPSHOTS, lambda snapshot: snapshot.name, progress
    )
    return rebuild(
        path,
        indexes(archive, packs, on_damage),
        _snapshot_rows(archive, snapshots, on_damage),
        archive.events(on_damage),
    )


def _counted(
    archive: Archive,
    items: Iterable[Item],
    folder: str,
    name_of: Callable[[Item], str],
    progress: Progress,
) -> Iterator[Item]:
    """Give the items, one file of ``folder`` each; each is done when the next one is asked for."""
    sizes = {name: archive.store.stat(name) or 0 for name in archive.store.list(folder)}
    progress.phase(f"Indexing {folder}")
    progress.expect(len(sizes), sum(sizes.values()))
    for item in items:
        name = name_of(item)
        progress.begin(name, sizes.get(name, 0))
        yield item
        progress.advance(sizes.get(name, 0), fetched=True)
        progress.end(name)


def _snapshot_rows(
    archive: Archive, snapshots: Iterable[Snapshot], on_damage: OnDamage
) -> Iterator[tuple[str, Seal, Manifest]]:
    for snapshot in snapshots:
        try:
            yield snapshot.id, snapshot.seal, archive.manifest(snapshot.seal)
        except DamageError as error:
            on_damage(snapshot.title, error)


def rebuild(
    path: str | os.PathLike[str],
    packs: Iterable[tuple[str, int, Iterable[IndexEntry]]],
    snapshots: Iterable[tuple[str, Seal, Manifest]],
    events: Iterable[tuple[str, Event]],
) -> Counts:
    """Write a new catalogue from these records and put it in the place of whatever is at ``path``.

    Others may go on reading and writing: they see the old catalogue until the new one is there,
    then the new one. What they add after the caller listed the archive may go with the old one;
    ``known_packs`` and the like tell what to add again. The records are taken one at a time.
    """
    path = Path(path)
    if not may_replace(path):
        raise CatalogueReadOnlyError(path)
    for abandoned in path.parent.glob(f"{path.name}.*{_NEW_SUFFIX}"):
        if time.time() - abandoned.stat().st_mtime > _ABANDONED_SECONDS:
            remove_all(abandoned)
    new = path.with_name(f"{path.name}.{uuid.uuid4().hex}{_NEW_SUFFIX}")
    try:
        with Catalogue.open(new) as catalogue:
            counts = Counts(
                _fill(catalogue, packs, lambda conn, row: updates.put_pack(conn, *row)),
                _fill(catalogue, snapshots, lambda conn, row: updates.put_snapshot(conn, *row)),
                _fill(
                    catalogue,
                    events,
                    lambda conn, row: updates.put_event(conn, *row),
                    _EVENTS_AT_ONCE,
                ),
            )
            catalogue.write(lambda connection: _check(connection, new))
        replace_file(new, path)
    finally:
        remove_all(new)
    return counts


def _fill(
    catalogue: Catalogue,
    rows: Iterable[Item],
    put: Callable[[Connection, Item], bool],
    at_once: int = 1,
) -> int:
    """Put all rows, so many in a transaction; return how many were new."""

    def put_all(batch: list[Item], connection: Connection) -> int:
        return sum(put(connection, row) for row in batch)

    # Nobody else knows this file: no transaction is retried, no iterable read twice.
    return sum(catalogue.write(partial(put_all, batch)) for batch in batches(rows, at_once))


def _check(connection: Connection, path: Path) -> None:
    """Raise CatalogueUnusable unless SQLite itself finds nothing wrong with the whole file."""
    answers = [
        tuple(row)
        for check in ("integrity_check", "foreign_key_check")
        for row in connection.exec_driver_sql(f"PRAGMA {check}")
    ]
    if answers != [("ok",)]:
        raise CatalogueUnusable(path, f"it came out wrong: {answers[:3]}")
