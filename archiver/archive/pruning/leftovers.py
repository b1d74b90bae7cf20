"""What runs that died left in ``tmp/``: seen by status, gone on with by the next run, removed by prune."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from archiver.archive import layout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.storage.store import Store

_PACK: Final = "pack"
_HALF_WRITTEN: Final = (
    *("put", "link", "copy", "repair", "parity", "parity-blocks", "signature", "intent"),
)
_WORKLOG: Final = re.compile(r"tmp/(work-[0-9a-f]{32}\.jsonl)")
_LEAST_IDLE: Final = 7 * 86400
"""Seconds for which nobody wrote to a worklog before it can be one that nobody goes on with."""


class Unfinished(NamedTuple):
    """Files of dead runs: how many, their bytes together, and the bytes of packs among them."""

    files: int
    bytes: int
    pack_bytes: int


def unfinished(store: Store) -> Unfinished:
    """Return what dead runs left. Worklogs are not counted: a living run may have them open."""
    files = total = packs = 0
    for purpose in (*_HALF_WRITTEN, _PACK):
        for leftover in store.leftovers(purpose):
            files += 1
            total += leftover.size
            packs += leftover.size if purpose == _PACK else 0
            leftover.release()
    return Unfinished(files, total, packs)


def clear_up(store: Store, grace: int) -> None:
    """Remove what dead runs left half-written, and the folders of the trash that are empty.

    Packs, and the worklogs that tell what is in them, are what the next run goes on with: they go once
    nobody wrote to them for ``grace`` seconds, a week at least.
    """
    for purpose in _HALF_WRITTEN:
        for leftover in store.leftovers(purpose):
            leftover.discard()
    longest = max(grace, _LEAST_IDLE)
    for leftover in store.leftovers(_PACK):
        if leftover.idle > longest:
            leftover.discard()
        leftover.release()
    for name in _idle_worklogs(store, longest):
        store.remove(name)
    store.tidy(layout.TRASH)


def _idle_worklogs(store: Store, longest: int) -> Iterator[str]:
    for name in list(store.list(layout.TMP)):
        found = _WORKLOG.fullmatch(name)
        path = store.scratch(found[1]) if found else None
        if path is not None and path.exists():
            changed = path.parent.stat().st_mtime  # by the disk's own clock, as the file's is
            if changed - path.stat().st_mtime > longest:
                yield name
