"""Which stored files parity is for, and which of them have a sidecar: by their names, none is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archiver.archive import layout
from archiver.archive.publish import closure_names

if TYPE_CHECKING:
    from collections.abc import Iterable

    from archiver.archive.archive import Archive
    from archiver.archive.seals import Snapshot
    from archiver.storage.store import Store


def files_of_snapshots(snapshots: Iterable[Snapshot]) -> set[str]:
    """Return the names of these seals, and of the manifests and packs that they need."""
    names: set[str] = set()
    for snapshot in snapshots:
        names.add(snapshot.name)
        names.update(closure_names(snapshot.seal))
    return names


def protectable_files(archive: Archive) -> set[str]:
    """Return the names of everything that parity is for: what seals need, the seals, and the journal.

    A damaged seal's own name is among them.
    """
    damaged: set[str] = set()
    whole = list(archive.snapshots(on_damage=lambda name, _error: damaged.add(name)))
    return files_of_snapshots(whole) | damaged | set(archive.journal.names())


def sidecar_name(name: str) -> str:
    """Return the name of the sidecar of a stored file: a pack, manifest, seal or event."""
    return layout.parity_name(layout.digest_of(name) or "")


def without_sidecar(store: Store, names: Iterable[str]) -> list[str]:
    """Return those of the stored files that have no sidecar, sorted; none is read."""
    sidecars = set(store.list(layout.PARITY))
    return sorted(name for name in names if sidecar_name(name) not in sidecars)
