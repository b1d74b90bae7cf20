"""What a damaged or lost pack held, and in which order, as far as any copy of it still tells."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from archiver.archive import layout
from archiver.archive.out_of_use import aside_names
from archiver.archive.packs.reader import PackReader
from archiver.archive.records import ArchiveInfo
from archiver.errors import ArchiverError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from archiver.archive.packs.records import IndexEntry
    from archiver.storage.store import Store


class PackListing(NamedTuple):
    """A pack, its entries in pack order, and the archive that wrote it."""

    pack: str
    entries: tuple[IndexEntry, ...]
    writer: ArchiveInfo


def listing_of(pack: str, stores: Iterable[Store], info: ArchiveInfo) -> PackListing:
    """What the copies of a pack in these stores tell of it; ``info`` if none tells who wrote it.

    An index counts for more than what is found by walking a copy that lost its own.
    """
    walked: tuple[IndexEntry, ...] = ()
    writer = None
    for reader in _copies(pack, stores):
        try:
            writer = writer or _writer(reader)
            try:
                return PackListing(pack, reader.index(), writer or info)
            except ArchiverError:
                walked = walked or tuple(reader.walk())
        except ArchiverError:
            continue
        finally:
            reader.close()
    return PackListing(pack, walked, writer or info)


def _writer(reader: PackReader) -> ArchiveInfo | None:
    try:
        head = reader.head()
    except ArchiverError:
        return None
    return ArchiveInfo(head.archive, "", "", features=head.features)


def _copies(pack: str, stores: Iterable[Store]) -> Iterator[PackReader]:
    name = layout.pack_name(pack)
    for store in stores:
        aside = ((one, layout.aside_of(one)) for one in aside_names(store))
        names = [name, *(one for one, found in aside if found is not None and found.name == name)]
        for one in names:
            try:
                yield PackReader(store.open(one), one)
            except (ArchiverError, FileNotFoundError):
                continue
