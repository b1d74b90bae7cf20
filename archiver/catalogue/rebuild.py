"""The catalogue of an archive: opened and brought up to date, or written anew from the archive's files.

It is only an index, so nothing waits for it. A file that is damaged, foreign or of another version is
replaced. Where its file can lie nowhere, it lies in memory.
"""

from __future__ import annotations

import time
import uuid
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from archiver.archive.layout import PACKS, SNAPSHOTS, document_of, pack_name
from archiver.archive.lookup import indexes
from archiver.catalogue import queries, updates
from archiver.catalogue.database import Catalogue, batches, replace_file
from archiver.catalogue.location import catalogue_path, usable_paths
from archiver.catalogue.sqlite_file import (
    CATALOGUE_FAULTS,
    CatalogueReadOnlyError,
    CatalogueUnusable,
    may_replace,
    remove_all,
)
from archiver.errors import (
    DamageError,
    OnDamage,
    explain_system_error,
    skip_damaged,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator

    from sqlalchemy import Connection

    from archiver.archive.archive import Archive
    from archiver.archive.events import Event
    from archiver.archive.packs.format import IndexEntry
    from archiver.archive.records import Manifest, Seal
    from archiver.archive.seals import Snapshot
    from archiver.progress import Progress

Item = TypeVar("Item")

_NEW_SUFFIX: Final = ".new"
_ABANDONED_SECONDS: Final = 24 * 3600.0
"""After these a half-written file is taken to be a killed run's."""
_EVENTS_AT_ONCE: Final = 200
"""Events are small enough to share a transaction with so many others."""


# ---- opened and up to date


def open_catalogue(archive: Archive, progress: Progress) -> Catalogue:
    """Return the archive's catalogue, with every pack, snapshot and event that is there now.

    ``progress`` is told if it has to be written anew. Where its file cannot be used, another one is, in a
    folder of this user's, or in memory, also in the middle of a run.
    """
    for path in usable_paths(archive):
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
    for path in usable_paths(archive):
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
