"""What a repair did, and what is left."""

from __future__ import annotations

import msgspec

from archiver.archive.finding import Finding
from archiver.archive.repair.reseal import Resealed
from archiver.archive.repair.whole_file import Mended


class RepairReport(msgspec.Struct, frozen=True):
    """What was damaged, what was done, and what is damaged still.

    Attributes:
        dry_run: Whether nothing was written: ``mended`` and ``resealed`` are what would be done.
        damage: How many findings there were before.
        mended: What is right again.
        resealed: The snapshots that have a new seal.
        aside: The stored files that were taken out of use, by the names that they had.
        notes: What kept a source from helping.
        remaining: What could not be mended, and whom it hits.
    """

    dry_run: bool
    damage: int
    mended: tuple[Mended, ...] = ()
    resealed: tuple[Resealed, ...] = ()
    aside: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    remaining: tuple[Finding, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether everything is right now, or would be."""
        return not self.remaining
