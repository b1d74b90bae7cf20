"""Saying what the disk of an archive cannot do, and what that means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from archiver.cli import output
from archiver.errors import ArchiverError
from archiver.storage.filesystem import Limit

if TYPE_CHECKING:
    from archiver.storage.store import Store

SENTENCES: Final = {
    Limit.FOLDER_SYNC: "This disk cannot make names durable: what was stored in the last minutes "
    "before a power cut may be gone after it. Nothing that is listed afterwards is wrong; run the "
    "same command again.",
    Limit.LOCKS: "This disk has no locks: nothing keeps a second run of the same plan from doing the "
    "same work, which harms nothing. Where something is deleted, a file stands in for the lock.",
}


def limits(store: Store) -> list[tuple[Limit, str]]:
    """Each limit of the archive's disk, and what it means, in a sentence; none where it is unknown."""
    try:
        return [(one, SENTENCES[one]) for one in sorted(store.limits())]
    except ArchiverError:
        return []  # whoever reads or writes there will say why


def remark_limits(store: Store) -> None:
    """Say it once, to a person who begins to write there."""
    for _, sentence in limits(store):
        output.remark(f"note: {sentence}")


def tell_limits(store: Store) -> None:
    """Say it among the results."""
    for limit, sentence in limits(store):
        output.record("limit", limit=limit, message=sentence)
        output.line(f"Disk: {sentence}")
