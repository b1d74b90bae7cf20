"""Where a repair takes from, and in which order."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from archiver.archive.repair.copies import FileSource, aside_copies, from_parity, same_name
from archiver.archive.repair.misplaced import Misplaced
from archiver.archive.repair.replica import open_other
from archiver.archive.repair.sources import FolderSource, ObjectSource, packs_of
from archiver.operations.repair.upstream_source import UpstreamSource
from archiver.upstream.hub_cache import scan_snapshot, snapshots_below

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from archiver.archive.archive import Archive
    from archiver.storage.store import Store
    from archiver.upstream.protocol import Upstream


class Places:
    """The archive's own files out of use, other archives, parity, plain folders, upstream."""

    def __init__(
        self, archive: Archive, folders: Sequence[Path], connect: Callable[[], Upstream] | None
    ) -> None:
        """Raise UsageError for a folder that is not there, or is the archive itself."""
        self._archive = archive
        opened = [(folder, open_other(folder, archive)) for folder in folders]
        self.replicas = [other for _, other in opened if other is not None]
        self._folders = [folder for folder, other in opened if other is None]
        self._upstream = UpstreamSource(connect) if connect else None
        self.misplaced = Misplaced(archive.store)

    @property
    def stores(self) -> list[Store]:
        """Those of the other archives."""
        return [replica.store for replica in self.replicas]

    def files(self) -> list[FileSource]:
        """Return where whole files may come from, the nearest first."""
        store = self._archive.store
        sources: list[FileSource] = [aside_copies(store, ""), self.misplaced]
        for other in self.stores:
            title = other.describe()
            sources += [same_name(other, title), aside_copies(other, f"{title}/")]
        # After every copy: parity has to compute a file from what is left of it.
        sources.append(from_parity(store, ""))
        return sources + [from_parity(other, f"{other.describe()}/") for other in self.stores]

    def objects(self) -> list[ObjectSource]:
        """Return where single objects may come from; upstream last, and only what nobody else has."""
        sources = packs_of(self._archive, "")
        for replica in self.replicas:
            sources += packs_of(replica, replica.store.describe())
        sources += [FolderSource(str(path), partial(_files_in, path)) for path in self._folders]
        return [*sources, self._upstream] if self._upstream else sources

    @property
    def notes(self) -> tuple[str, ...]:
        """What kept upstream from helping."""
        return tuple(dict.fromkeys(self._upstream.notes)) if self._upstream else ()

    def close(self) -> None:
        """End what is open."""
        if self._upstream:
            self._upstream.close()


def _files_in(folder: Path) -> list[dict[str, str]]:
    """Return the files of a folder, and of each snapshot if it is a hub client's cache."""
    return [scan_snapshot(path).files for path in (folder, *snapshots_below(folder))]
