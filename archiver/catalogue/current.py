"""Opening an archive's catalogue and bringing it up to what the archive's own files say."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from archiver.archive.layout import CATALOGUE, SNAPSHOTS, document_of, pack_name
from archiver.catalogue import queries, updates
from archiver.catalogue.database import Catalogue
from archiver.catalogue.errors import CatalogueUnusable
from archiver.catalogue.rebuild import Counts, rebuild
from archiver.digest import blake3_hex
from archiver.errors import DamageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.archive.archive import Archive, OnDamage, Snapshot
    from archiver.archive.packs.records import IndexEntry
    from archiver.archive.records import Event, Manifest, Seal

_PLACE_DIGITS: Final = 16


def _ignore(_name: str, _error: DamageError) -> None:
    """An audit reports damage; the index only leaves out what cannot be read."""


def catalogue_path(archive: Archive) -> Path:
    """Where the archive's catalogue lies: inside it, or in the user's cache if it is read-only."""
    root = Path(archive.store.describe())
    if os.access(root, os.W_OK):
        return root / CATALOGUE
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "archiver"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        folder = Path(tempfile.gettempdir())
    # A copy of an archive has the same id, and may hold other packs: so the place is in the name too.
    place = blake3_hex(os.fsencode(os.path.realpath(root)))[:_PLACE_DIGITS]
    return folder / f"{archive.info.archive}-{place}.sqlite"


def open_current(archive: Archive) -> Catalogue:
    """The archive's catalogue, holding every pack, snapshot and event that is there now."""
    path = catalogue_path(archive)
    try:
        catalogue = Catalogue.open(path)
    except CatalogueUnusable:
        rebuild_from(archive)
        catalogue = Catalogue.open(path)
    try:
        refresh(archive, catalogue)
    except BaseException:
        catalogue.close()
        raise
    return catalogue


def rebuild_from(archive: Archive, on_damage: OnDamage = _ignore) -> Counts:
    """Write the catalogue anew from the archive's files; what cannot be read goes to ``on_damage``."""
    return rebuild(
        catalogue_path(archive),
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
