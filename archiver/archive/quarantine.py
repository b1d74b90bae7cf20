"""Quarantine and trash: taking a stored file out of use, and reading it there where all else is lost.

Whoever is about to remove or replace a stored file moves it, or gives it a second name, in one of these
folders, below the time. ``layout`` knows the names, ``prune/trash`` what goes for good.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from archiver.archive import layout
from archiver.archive.packs.folders import is_further_pack
from archiver.errors import DamageError
from archiver.text import utc_after, utc_now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from archiver.archive.archive import Archive
    from archiver.archive.packs.index import ObjectIndex, OnDamaged
    from archiver.archive.packs.reader import PackReader
    from archiver.archive.records import Manifest
    from archiver.archive.seals import Snapshot
    from archiver.storage.store import Store


def link_to_quarantine(store: Store, name: str) -> None:
    """Give a file that is about to be replaced a second name in quarantine; harmless if it is not there."""
    _quarantine(store, name, store.link)


def move_to_quarantine(store: Store, name: str) -> str:
    """Take a file out of use, into quarantine; return its name there, ``""`` if there was no such file."""
    return _quarantine(store, name, store.move)


def _quarantine(store: Store, name: str, take: Callable[[str, str], None]) -> str:
    time = utc_now()
    while store.stat(name) is not None:
        quarantined = layout.quarantined_name(layout.QUARANTINE, time, name)
        try:
            take(name, quarantined)
        except FileExistsError:
            time = utc_after(time)  # another damaged file of this name went there this second
        except FileNotFoundError:
            return ""
        else:
            return quarantined
    return ""


def quarantined_names(store: Store) -> list[str]:
    """Return the names of all files in quarantine and trash, the newest first."""
    names = [name for folder in (layout.QUARANTINE, layout.TRASH) for name in store.list(folder)]
    return sorted(names, key=_quarantined_at, reverse=True)


def _quarantined_at(name: str) -> str:
    quarantined = layout.quarantined_of(name)
    return quarantined.time if quarantined else ""


class QuarantinedPacks:
    """The packs in quarantine and trash, each by the name that it has there."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def names(self) -> list[str]:
        """Return all of them, the newest first."""
        return [name for name in quarantined_names(self._store) if is_quarantined_pack(name)]

    def pack(self, pack: str) -> PackReader:
        """Return a reader of the file; raise DamageError if it went since."""
        # Whoever only takes files out of use need not wait for arrays.
        from archiver.archive.packs.reader import PackReader  # noqa: PLC0415

        try:
            return PackReader.stored(self._store.open(pack), pack)
        except FileNotFoundError:
            raise DamageError(f"{pack} is gone.", path=pack) from None


def is_quarantined_pack(name: str) -> bool:
    """Return whether it is the name of a pack in quarantine or trash."""
    quarantined = layout.quarantined_of(name)
    return quarantined is not None and layout.pack_of(quarantined.name) is not None


class _AllPacks:
    """An archive's packs: in use by their digests, out of use by names, in further folders by paths."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._quarantined = QuarantinedPacks(archive.store)

    def pack(self, pack: str) -> PackReader:
        if is_further_pack(pack):
            return self._archive.pack_folders.pack(pack)
        return (self._quarantined if is_quarantined_pack(pack) else self._archive).pack(pack)

    def names(self) -> Iterator[str]:
        yield from self._archive.packs()
        # Also those that the archive has itself: its own may be damaged.
        yield from self._archive.pack_folders.packs()
        yield from self._quarantined.names()


def packs_for(
    archive: Archive, snapshot: Snapshot, on_damaged: OnDamaged | None = None
) -> ObjectIndex:
    """Return the packs of a snapshot; for what these have lost all others, then those out of use."""
    from archiver.archive.packs.index import ObjectIndex  # noqa: PLC0415 - likewise

    packs = _AllPacks(archive)
    own = (pack for pack, _ in snapshot.seal.packs)
    return ObjectIndex(packs, own, packs.names, on_damaged)


def manifest_for(archive: Archive, snapshot: Snapshot) -> Manifest:
    """Return the manifest of a snapshot, out of quarantine or trash if it is not whole in its place.

    Raise DamageError as ``Archive.manifest`` does, if it is whole nowhere.
    """
    try:
        return archive.manifest(snapshot.seal)
    except DamageError:
        for name in quarantined_names(archive.store):
            quarantined = layout.quarantined_of(name)
            if quarantined is None:
                continue
            if layout.digest_of(quarantined.name) == snapshot.seal.manifest.blake3:
                with suppress(DamageError):
                    return archive.manifest_file(snapshot.seal, name)
        raise
