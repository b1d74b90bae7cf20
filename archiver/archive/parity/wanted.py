"""Which stored files parity is for: what seals need, the seals themselves, and the journal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archiver.archive import layout
from archiver.archive.publish import closure_names

if TYPE_CHECKING:
    from collections.abc import Iterable

    from archiver.archive.archive import Archive, Snapshot
    from archiver.storage.store import Store


def names_of(snapshots: Iterable[Snapshot]) -> set[str]:
    """The names of these seals, and of the manifests and packs that they need."""
    found: set[str] = set()
    for one in snapshots:
        found.add(one.name)
        found.update(closure_names(one.seal))
    return found


def all_names(archive: Archive) -> set[str]:
    """The names of everything that parity is for; a damaged seal's own name is among them."""
    damaged: set[str] = set()
    whole = list(archive.snapshots(on_damage=lambda name, _error: damaged.add(name)))
    return names_of(whole) | damaged | set(archive.journal.names())


def sidecar_of(name: str) -> str:
    """The name of a stored file's sidecar; ``name`` is a pack's, manifest's, seal's or event's."""
    return layout.parity_name(layout.digest_of(name) or "")


def without_sidecar(store: Store, names: Iterable[str]) -> list[str]:
    """Those of the stored files that have no sidecar, sorted; none is read."""
    there = set(store.list(layout.PARITY))
    return sorted(name for name in names if sidecar_of(name) not in there)
