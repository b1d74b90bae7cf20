"""Writing the catalogue anew from the archive's own files."""

from __future__ import annotations

import time
import uuid
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from archiver.catalogue.database import Catalogue
from archiver.catalogue.errors import CatalogueReadOnlyError, CatalogueUnusable
from archiver.catalogue.files import may_replace, remove_all
from archiver.catalogue.rows import batches, put_event, put_pack, put_snapshot
from archiver.catalogue.swap import put_in_place

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable

    from sqlalchemy import Connection

    from archiver.archive.records import Event, Manifest, Seal
    from archiver.catalogue.rows import PackEntry

Item = TypeVar("Item")

_SUFFIX = ".new"
_ABANDONED = 24 * 3600.0
"""Seconds after which a half-written file is taken to be a killed run's."""
_SMALL = 200
"""Records that are small enough to share a transaction with so many others."""


class Counts(NamedTuple):
    """How many records went into a new catalogue; one that was given twice counts once."""

    packs: int
    snapshots: int
    events: int


def rebuild(
    path: str | os.PathLike[str],
    packs: Iterable[tuple[str, int, Iterable[PackEntry]]],
    snapshots: Iterable[tuple[str, Seal, Manifest]],
    events: Iterable[tuple[str, Event]],
) -> Counts:
    """Write a new catalogue from these records and put it in the place of whatever is at ``path``.

    Others may go on reading and writing: they see the old catalogue until the new one is there,
    then the new one. What they add after the caller listed the archive may go with the old one;
    ``known_packs`` and the like tell what to add again. The records are taken one at a time.
    """
    where = Path(path)
    if not may_replace(where):
        raise CatalogueReadOnlyError(where)
    _remove_abandoned(where)
    new = where.with_name(f"{where.name}.{uuid.uuid4().hex}{_SUFFIX}")
    try:
        with Catalogue.open(new) as catalogue:
            counts = Counts(
                _fill(catalogue, packs, lambda conn, item: put_pack(conn, *item)),
                _fill(catalogue, snapshots, lambda conn, item: put_snapshot(conn, *item)),
                _fill(catalogue, events, lambda conn, item: put_event(conn, *item), _SMALL),
            )
            catalogue.write(lambda connection: _check(connection, new))
        put_in_place(new, where)
    finally:
        remove_all(new)
    return counts


def _fill(
    catalogue: Catalogue,
    items: Iterable[Item],
    put: Callable[[Connection, Item], bool],
    at_once: int = 1,
) -> int:
    added = 0
    for batch in batches(items, at_once):
        # Nobody else knows this file: no transaction is retried, no iterable read twice.
        added += catalogue.write(partial(_put_all, put, batch))
    return added


def _put_all(
    put: Callable[[Connection, Item], bool], batch: list[Item], connection: Connection
) -> int:
    return sum(put(connection, item) for item in batch)


def _check(connection: Connection, path: Path) -> None:
    """Raise unless SQLite itself finds nothing wrong with the whole file."""
    found = [
        tuple(row)
        for check in ("integrity_check", "foreign_key_check")
        for row in connection.exec_driver_sql(f"PRAGMA {check}")
    ]
    if found != [("ok",)]:
        raise CatalogueUnusable(path, f"it came out wrong: {found[:3]}")


def _remove_abandoned(path: Path) -> None:
    """Remove what killed rebuilds left behind."""
    for old in path.parent.glob(f"{path.name}.*{_SUFFIX}"):
        if time.time() - old.stat().st_mtime > _ABANDONED:
            remove_all(old)
