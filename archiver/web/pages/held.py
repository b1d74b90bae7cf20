"""What the pages of a repository share: its snapshots, their addresses, their manifests."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote

from archiver.archive.manifests import tensors_of
from archiver.archive.quarantine import manifest_for
from archiver.errors import UsageError, skip_damaged
from archiver.names import MODEL, RepositoryName, as_repo_id
from archiver.web.holdings import served_name
from archiver.web.pages.rendering import revision_href

if TYPE_CHECKING:
    from archiver.archive.archive import Archive
    from archiver.archive.records import Manifest
    from archiver.archive.seals import Snapshot

_PARTS: Final = 400_000
"""Files, tensors and segments of the manifests that are kept, together; one alone may have more."""


class HeldSnapshots(NamedTuple):
    """A repository's snapshots, the one sealed last first, and which one its name alone means."""

    repository: str
    snapshots: tuple[Snapshot, ...]
    default: Snapshot

    def reference(self, snapshot: Snapshot) -> str:
        """Return what a snapshot is called in an address: its commit, or its id if several are of that."""
        revision = snapshot.seal.revision
        same = sum(each.seal.revision == revision for each in self.snapshots)
        return revision if same == 1 or not snapshot.sealed else snapshot.id

    def href(self, snapshot: Snapshot, *below: str) -> str:
        """Return the address of a snapshot's page, or of one below it."""
        return revision_href(self.repository, self.reference(snapshot), *below)


class Held:
    """What is held of each repository, and the manifests that were read last."""

    def __init__(self, archive: Archive) -> None:
        self.archive = archive
        self._manifests: OrderedDict[str, tuple[Manifest, int]] = OrderedDict()
        self._reading = threading.Lock()
        self._lock = threading.Lock()

    def of(self, name: str) -> HeldSnapshots | None:
        """Return what is held of a repository, None if nothing is; raise UsageError for no name."""
        snapshots = self.archive.snapshots_of(as_repo_id(name), skip_damaged)
        if not snapshots:
            snapshots = [each for each in self.archive.unsealed() if each.is_of(name)]
        if not snapshots:
            return None
        snapshots.sort(key=lambda each: (each.seal.sealed, each.id), reverse=True)
        default = self.archive.default(snapshots)
        return HeldSnapshots(default.seal.repository, tuple(snapshots), default)

    def find(self, name: str, revision: str) -> tuple[HeldSnapshots, Snapshot]:
        """Return a snapshot, and what else is held of its repository.

        Raise UsageError if it is not held, DamageError if its seal is damaged.
        """
        snapshot = self.archive.find(as_repo_id(name), revision)
        holding = self.of(name)
        if not snapshot.is_of(name):
            raise UsageError(f"Revision {revision[:64]} of {name} is not held.")
        if holding is None:
            holding = HeldSnapshots(snapshot.seal.repository, (snapshot,), snapshot)
        return holding, snapshot

    def manifest(self, snapshot: Snapshot) -> Manifest:
        """Return a snapshot's manifest; raise DamageError if it is whole nowhere.

        One is read at a time: of a large one, what is made of it takes hundreds of megabytes.
        """
        digest = snapshot.seal.manifest.blake3
        known = self._kept(digest)
        if known is not None:
            return known
        with self._reading:
            known = self._kept(digest)
            if known is not None:
                return known
            manifest = manifest_for(self.archive, snapshot)
            with self._lock:
                self._manifests[digest] = manifest, _parts(manifest)
                while (
                    len(self._manifests) > 1
                    and sum(parts for _, parts in self._manifests.values()) > _PARTS
                ):
                    self._manifests.popitem(last=False)
        return manifest

    def _kept(self, digest: str) -> Manifest | None:
        with self._lock:
            known = self._manifests.get(digest)
            if known is None:
                return None
            self._manifests.move_to_end(digest)
            return known[0]


def _parts(manifest: Manifest) -> int:
    return sum(1 + len(tensors_of(entry)) + len(entry.segments) for entry in manifest.files)


def file_href(repository: str, revision: str, path: str) -> str:
    """Return the address of a file's bytes, as the hub has it."""
    name = RepositoryName.parse(repository)
    folder = "" if name.type == MODEL else f"/{name.type}s"
    return f"{folder}/{quote(served_name(name))}/resolve/{revision}/{quote(path)}"
