"""Files out of use, in quarantine and trash: putting one there, and reading them where all else is lost."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from archiver.archive import layout
from archiver.archive.packs.index import ObjectIndex
from archiver.archive.packs.reader import PackReader
from archiver.errors import DamageError
from archiver.text import utc_after, utc_now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from archiver.archive.archive import Archive
    from archiver.archive.records import Manifest
    from archiver.archive.seals import Snapshot
    from archiver.storage.store import Store


def link_to_quarantine(store: Store, name: str) -> None:
    """Give what is under ``name`` a second name in quarantine; harmless if nothing is there."""
    _aside(store, name, store.link)


def move_to_quarantine(store: Store, name: str) -> str:
    """Take a file out of use, into quarantine; where it lies now, ``""`` if it was not there."""
    return _aside(store, name, store.move)


def _aside(store: Store, name: str, take: Callable[[str, str], None]) -> str:
    time = utc_now()
    while store.stat(name) is not None:
        other = layout.quarantined_name(layout.QUARANTINE, time, name)
        try:
            take(name, other)
        except FileExistsError:
            time = utc_after(time)  # another damaged file of this name went there this second
        except FileNotFoundError:
            return ""
        else:
            return other
    return ""


def quarantined_names(store: Store) -> list[str]:
    """The names of all files out of use, the newest first."""
    found = [name for folder in (layout.QUARANTINE, layout.TRASH) for name in store.list(folder)]
    return sorted(found, key=_age, reverse=True)


def _age(name: str) -> str:
    found = layout.quarantined_of(name)
    return found.time if found else ""


class QuarantinedPacks:
    """The packs out of use of a store, by the names that they have now."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def names(self) -> list[str]:
        """All of them, the newest first."""
        return [name for name in quarantined_names(self._store) if is_quarantined_pack(name)]

    def pack(self, pack: str) -> PackReader:
        """A reader of the file."""
        try:
            return PackReader(self._store.open(pack), pack)
        except FileNotFoundError:
            raise DamageError(f"{pack} is gone.", path=pack) from None


def is_quarantined_pack(name: str) -> bool:
    """Whether it is the name of a pack that is out of use."""
    found = layout.quarantined_of(name)
    return found is not None and layout.pack_of(found.name) is not None


class _AllPacks:
    """The packs of an archive, in use by their digests and out of use by their names."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._aside = QuarantinedPacks(archive.store)

    def pack(self, pack: str) -> PackReader:
        return (self._aside if is_quarantined_pack(pack) else self._archive).pack(pack)

    def spare(self) -> Iterator[str]:
        yield from self._archive.packs()
        yield from self._aside.names()


def packs_for(archive: Archive, snapshot: Snapshot) -> ObjectIndex:
    """The packs of a snapshot; for what these have lost all others, and then those out of use."""
    every = _AllPacks(archive)
    return ObjectIndex(every, (pack for pack, _ in snapshot.seal.packs), every.spare)


def manifest_for(archive: Archive, snapshot: Snapshot) -> Manifest:
    """The manifest of a snapshot, out of use if it is not whole in its place.

    DamageError as for ``Archive.manifest``, if it is whole nowhere.
    """
    try:
        return archive.manifest(snapshot.seal)
    except DamageError:
        for one in quarantined_names(archive.store):
            found = layout.quarantined_of(one)
            if found is not None and layout.digest_of(found.name) == snapshot.seal.manifest.blake3:
                with suppress(DamageError):
                    return archive.manifest_at(snapshot.seal, one)
        raise
