"""What the far side of a gap has, by an inventory or a receipt: so that a bundle can leave it out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from archiver.archive.bundles.records import DOCUMENT_MAX, parse_inventory
from archiver.archive.receipts import (
    accepted_receipts,
    parse_receipt,
    places_called,
    receipts_by_place,
)
from archiver.digest import Blake3Hex
from archiver.errors import UsageError, skip_damaged
from archiver.text import printable

if TYPE_CHECKING:
    from collections.abc import Collection

    from archiver.archive.archive import Archive
    from archiver.archive.receipts import Receipt
    from archiver.archive.seals import Snapshot


class FarSide(NamedTuple):
    """What the far side says that it has: ``id`` is that of the inventory or receipt that says so."""

    id: str
    packs: frozenset[tuple[str, int]]


def far_side(archive: Archive, text: str) -> FarSide:
    """Return what an inventory or a receipt says: that file, or the newest receipt of a place called so.

    Nobody's signature matters: whatever says too much, the import names what is missing.

    Raises:
        UsageError: There is neither such a file nor an accepted receipt of such a place, or it is too
            large, or tells of nothing that is held here.
        DamageError: It is neither, or not as it was written.
        UnknownFormatError: A newer version wrote it.
    """
    path = Path(text)
    if not path.is_file():
        return _remembered(archive, text)
    try:
        with path.open("rb") as file:
            data = file.read(DOCUMENT_MAX + 1)
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror}.",
            hint="'archiver inventory' on the far machine writes such a file.",
        ) from error
    if _kind_of(data) == "receipt":
        receipt, held = parse_receipt(data, text), _held(archive)
        listed = [each.id for each in receipt.snapshots if each.is_held(held)]
        return _of_snapshots(archive, receipt, listed, text)
    inventory = parse_inventory(data, text)
    return FarSide(inventory.id, frozenset(inventory.packs))


class _Kind(msgspec.Struct):
    kind: str = ""


def _kind_of(data: bytes) -> str:
    try:
        return msgspec.json.decode(data, type=_Kind).kind
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""


def _remembered(archive: Archive, text: str) -> FarSide:
    """Return what the receipts of a place that is called so add up to: those that count, if any does."""
    by_place = receipts_by_place(
        accepted_receipts(archive.events(skip_damaged)), archive.policy().keys, _held(archive)
    )
    called = places_called(by_place, text)
    if len(called) == 1:
        (says,) = called.values()
        return _of_snapshots(
            archive, says.newest.receipt, says.held, f"The receipt of {printable(text)}"
        )
    if called:
        raise UsageError(
            f"{len(called)} places are called {printable(text)!r}.",
            hint=f"Name the one that is meant by its identity: {', '.join(sorted(called))}.",
        )
    names = sorted({printable(says.newest.receipt.name) for says in by_place.values()})
    raise UsageError(
        f"There is no file {printable(text)}, and no receipt of a place that is called so was accepted.",
        hint="'archiver inventory' and 'archiver receipt write' on the far machine write such a file. "
        f"Places that receipts came from: {', '.join(names) or 'none'}.",
    )


def _held(archive: Archive) -> dict[Blake3Hex, Snapshot]:
    return {snapshot.id: snapshot for snapshot in archive.snapshots(skip_damaged)}


def _of_snapshots(
    archive: Archive, receipt: Receipt, listed: Collection[str], what: str
) -> FarSide:
    """Return the packs of the snapshots that a receipt lists: by the seals that are here."""
    if receipt.snapshots and not listed:
        raise UsageError(
            f"{what} tells of no snapshot that is held here.", hint="Is it for another archive?"
        )
    held = _held(archive)
    packs = (pack for key in listed for pack in held[Blake3Hex(key)].seal.packs)
    return FarSide(receipt.id, frozenset(packs))
