"""Keeping the SQL index in step with a repair. It is a hint: what goes wrong with it is never an error."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from archiver.archive.repair.whole_file import Mended
from archiver.catalogue import updates
from archiver.catalogue.rebuild import catalogue_path, open_catalogue, rebuild_catalogue
from archiver.catalogue.sqlite_file import damage_of
from archiver.errors import ArchiverError
from archiver.progress import NoProgress

if TYPE_CHECKING:
    from collections.abc import Iterable

    from archiver.archive.archive import Archive


def forget(archive: Archive, packs: Iterable[str]) -> None:
    """Take packs out of the index before they are taken out of use."""
    if not catalogue_path(archive).exists():
        return
    with suppress(ArchiverError), open_catalogue(archive, NoProgress()) as catalogue:
        for pack in packs:
            updates.forget_pack(catalogue, pack)


def rebuild(archive: Archive) -> None:
    """Write the index anew, if there is one, because seals went that it knows of."""
    if catalogue_path(archive).exists():
        with suppress(ArchiverError):
            rebuild_catalogue(archive, NoProgress())


def mend(archive: Archive, *, dry_run: bool) -> tuple[Mended, ...]:
    """Write a damaged index anew; nothing if it is whole, or not there."""
    path = catalogue_path(archive)
    if not damage_of(path):
        return ()
    if not dry_run:
        rebuild(archive)
    return (Mended(path.name, "the archive's own files"),)
