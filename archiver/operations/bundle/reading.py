"""Volumes as an archive to read from, without one: for a restore straight from the media."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from archiver.archive import layout
from archiver.archive.bundles.volumes import VolumeSet, find_volumes
from archiver.archive.fixity import stored_right
from archiver.archive.publish import closure_names, missing_packs
from archiver.errors import ArchiverError, DamageError, NoSpaceError, UsageError, skip_damaged
from archiver.storage.local import LocalStore
from archiver.text import plural, printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from archiver.archive.bundles.volumes import FoundVolume
    from archiver.archive.seals import Snapshot
    from archiver.progress import Progress


class OpenVolumes:
    """Some volumes, of one bundle or of several that belong to each other."""

    def __init__(self, found: Sequence[FoundVolume], scratch: Path) -> None:
        self._found = found
        bundles = {each.bundle.id: each.bundle for each in found if each.bundle}
        self._bundles = bundles
        self._set = VolumeSet((each.store for each in found), bundles.values())
        self._scratch = scratch
        known = next(iter(bundles.values()), None)
        self.archive = self._set.archive(
            known.archive if known else "", known.tool if known else ""
        )
        self.mended: list[str] = []
        """Names of files that are damaged, and are read as parity gives them."""

    def only(self) -> Snapshot:
        """Return the one snapshot that is here; UsageError if there are several."""
        held = list(self.archive.snapshots(skip_damaged))
        if len({snapshot.id for snapshot in held}) != 1:
            titles = ", ".join(sorted({printable(snapshot.title) for snapshot in held}))
            raise UsageError(
                f"These volumes have {plural(len(held), 'snapshot')}"
                + (f": {titles}." if held else ", or none whose seal is whole."),
                hint="Name one with --snapshot REPO@REVISION."
                if held
                else "Name the folders of all volumes; the first has the seals.",
            )
        return self._whole(held[0])

    def find(self, repository: str, revision: str | None) -> Snapshot:
        """Return the snapshot that a reference names, as a restore from an archive does."""
        return self._whole(self.archive.find(repository, revision))

    def _whole(self, snapshot: Snapshot) -> Snapshot:
        """Raise DamageError that names volumes, if packs of the snapshot are not here."""
        gone = set(missing_packs(self.archive, snapshot.seal.packs))
        gone = {pack for pack in gone if self._set.stat(layout.pack_name(pack)) is None}
        if not gone:
            return snapshot
        there = {(each.bundle_id, each.number) for each in self._found}
        volumes = sorted(
            {
                (bundle.id, file.volume)
                for bundle in self._bundles.values()
                for file in bundle.files
                if any(pack in file.name for pack in gone) and (bundle.id, file.volume) not in there
            }
        )
        numbers = ", ".join(str(number) for _, number in volumes)
        carried = {pack for bundle in self._bundles.values() for pack in bundle.packs()}
        where = (
            f"Name the folder of volume {numbers} too."
            if volumes
            else "They are on volumes of this bundle that are damaged: run 'archiver bundle verify'."
        )
        if not gone <= carried:
            where = "The bundle is incremental: name the volumes of the one before it too, or import both."
        raise DamageError(
            f"{snapshot.title} cannot be restored from these volumes: {plural(len(gone), 'pack')} of it "
            f"{'is' if len(gone) == 1 else 'are'} not here.",
            hint=where,
        )

    def mend(self, snapshot: Snapshot, progress: Progress) -> bool:
        """Read by parity what is damaged of a snapshot's files; return whether any is now."""
        mended = False
        progress.phase("Mending")
        for name in closure_names(snapshot.seal):
            if stored_right(self._set, name, name):  # type: ignore[arg-type] # it only reads
                continue
            staged = LocalStore(self._scratch).stage("healed")
            try:
                if self._set.rebuild(name, staged):
                    staged.publish(name)
                    self._set.replace(name, LocalStore(self._scratch))
                    self.mended.append(name)
                    mended = True
            except NoSpaceError:
                raise  # it is no damage: nothing could be mended here
            except ArchiverError:
                continue
            finally:
                staged.abort()
        if mended:
            self.archive = self._set.archive(self.archive.info.archive)
        return mended


@contextmanager
def opened_volumes(paths: Sequence[Path]) -> Iterator[OpenVolumes]:
    """Give volumes as an archive; raise UsageError if there is none in one of the folders."""
    with tempfile.TemporaryDirectory(prefix="archiver-") as scratch:
        yield OpenVolumes(find_volumes(paths), Path(scratch))
