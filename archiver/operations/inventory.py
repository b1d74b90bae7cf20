"""Inventory: what an archive has, in one small file that somebody carries to where bundles are made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archiver.archive.bundles.ledger import Ledger
from archiver.archive.bundles.records import HeldSnapshot, Inventory, checked
from archiver.archive.events import TOOL
from archiver.archive.places import own_place
from archiver.archive.publish import missing_packs
from archiver.errors import skip_damaged
from archiver.text import utc_now

if TYPE_CHECKING:
    from archiver.archive.archive import Archive


def inventory(archive: Archive) -> Inventory:
    """Return what an archive has: packs by the sizes that they should have; none is read."""
    snapshots = []
    ledger = Ledger(archive.store)
    packs: dict[str, int] = {}
    for snapshot in archive.snapshots(skip_damaged):
        gone = set(missing_packs(archive, snapshot.seal.packs))
        if not gone:
            seal = snapshot.seal
            snapshots.append(HeldSnapshot(snapshot.id, seal.repository, seal.revision))
        packs.update((pack, size) for pack, size in snapshot.seal.packs if pack not in gone)
    return checked(
        Inventory(
            archive=archive.info.archive,
            place=own_place(archive).id,
            time=utc_now(),
            tool=TOOL,
            heads=archive.journal.heads(),
            snapshots=tuple(sorted(snapshots, key=lambda held: held.id)),
            packs=tuple(sorted(packs.items())),
            bundles=tuple(ledger.received()),
            receipts=tuple(receipt.id for receipt in [ledger.newest_receipt()] if receipt),
        )
    )
