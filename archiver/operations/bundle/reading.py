"""Volumes as an archive to read from, without one: for a restore straight from the media."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from archiver.archive import layout
from archiver.archive.bundles.records import stored_name
from archiver.archive.bundles.volumes import VolumeSet, find_volumes
from archiver.archive.fixity import stored_right
from archiver.archive.publish import closure_names
from archiver.errors import (
    ArchiverError,
    MissingVolumesError,
    NoSpaceError,
    UsageError,
    skip_damaged,
)
from archiver.storage.local import LocalStore
from archiver.text import plural, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from archiver.archive.bundles.volumes import FoundVolume
    from archiver.archive.seals import Snapshot
    from archiver.progress import Progress


class Carrier(NamedTuple):
    """A volume of a bundle that has a pack, or a piece of it; ``here``: it is among those that are open."""

    bundle: str
    volume: int
    here: bool


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

    @property
    def problems(self) -> list[str]:
        """What is wrong with the lists of the volumes, as sentences: they are done without."""
        return [message for each in self._found for _, message in each.problems]

    def only(self) -> Snapshot:
        """Return the one snapshot that is here; UsageError if there are several."""
        held = list(self.archive.snapshots(skip_damaged))
        if not held:
            self._require_documents("The snapshot")
        if len({snapshot.id for snapshot in held}) != 1:
            titles = ", ".join(sorted({printable(snapshot.title) for snapshot in held}))
            raise UsageError(
                f"These volumes have {plural(len(held), 'snapshot')}"
                + (f": {titles}." if held else ", or none whose seal is whole."),
                hint="Name one with --snapshot REPO@REVISION."
                if held
                else "Name the folders of all volumes; the first has the seals.",
            )
        return self._with_manifest(held[0])

    def find(self, repository: str, revision: str | None) -> Snapshot:
        """Return the snapshot that a reference names, as a restore from an archive does."""
        try:
            return self._with_manifest(self.archive.find(repository, revision))
        except UsageError:
            self._require_documents(f"{repository}@{revision}" if revision else repository)
            raise

    def _with_manifest(self, snapshot: Snapshot) -> Snapshot:
        manifest = closure_names(snapshot.seal)[0]
        if self._set.stat(manifest) is None:
            self._require_documents(f"The manifest of {snapshot.title}")
        return snapshot

    def _require_documents(self, what: str) -> None:
        """Raise MissingVolumesError if volumes that are not here have seals or manifests."""
        volumes = {
            (bundle.id, file.volume)
            for bundle in self._bundles.values()
            for file in bundle.files
            if file.name.startswith((layout.SNAPSHOTS, layout.MANIFESTS))
        }
        self._require_here(f"{printable(what)} is not on these volumes.", volumes)

    def _require_here(self, message: str, volumes: Iterable[tuple[str, int]]) -> None:
        missing = sorted(set(volumes) - self._here)
        if missing:
            numbers = ", ".join(str(number) for _, number in missing)
            raise MissingVolumesError(
                message,
                hint=f"Name the folder of volume {numbers} too."
                if len(missing) == 1
                else f"Name the folders of volumes {numbers} too.",
                volumes=tuple(missing),
            )

    @property
    def _here(self) -> set[tuple[str, int]]:
        return {(each.bundle_id, each.number) for each in self._found}

    def carriers(self, packs: Iterable[str]) -> dict[str, list[Carrier]]:
        """Return, of each of these packs, the volumes that have it, or pieces of it."""
        carriers: dict[str, dict[tuple[str, int], bool]] = {pack: {} for pack in packs}
        here = self._here
        for bundle in self._bundles.values():
            for file in bundle.files:
                pack = layout.pack_of(stored_name(file.name))
                if pack in carriers:
                    place = bundle.id, file.volume
                    carriers[pack][place] = place in here
        return {
            pack: [Carrier(*place, here) for place, here in sorted(places.items())]
            for pack, places in carriers.items()
        }

    def require(self, snapshot: Snapshot, gone: Sequence[str]) -> None:
        """Raise MissingVolumesError if packs that are not here lie on volumes that are not.

        What should be here and is not is damage: parity may bring it back, and the rest can be restored.
        """
        carriers = self.carriers(gone)
        count = plural(len(gone), "pack")
        message = (
            f"{snapshot.title} cannot be restored from these volumes: {count} of it "
            f"{'is' if len(gone) == 1 else 'are'} not here."
        )
        places = [each for found in carriers.values() for each in found]
        self._require_here(message, ((each.bundle, each.volume) for each in places))
        if all(carriers.values()):
            return
        if not self._bundles:
            hint = "Which volumes have them no bundle.json here tells: name the folders of all volumes."
        else:
            hint = "The bundle is incremental: name the volumes of the one before it too, or import both."
        raise MissingVolumesError(message, hint=hint)

    def mend(self, snapshot: Snapshot, progress: Progress) -> bool:
        """Read by parity what is damaged of a snapshot's files; return whether any is now."""
        mended = False
        progress.phase("Mending")
        for name in closure_names(snapshot.seal):
            if stored_right(self._set, name, name):
                continue
            staged = LocalStore(self._scratch).stage("healed")
            try:
                if self._set.rebuild(name, staged):
                    staged.publish(name)
                    self._set.replace(name, LocalStore(self._scratch))
                    self.mended.append(name)
                    mended = True
            except NoSpaceError as error:
                # It is no damage: nothing could be mended here.
                error.hint = (
                    f"To be mended, {printable(name)} needs room there. Free some, or name a folder on "
                    "another disk with TMPDIR, and run the same command again."
                )
                raise
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
