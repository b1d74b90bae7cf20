"""Verify: whether volumes are what was written, which are missing, and what can be restored from these."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from archiver.archive import layout
from archiver.archive.bundles.records import stored_name
from archiver.archive.bundles.volume_check import VolumeFault, check_volume, listed_files
from archiver.archive.bundles.volumes import VolumeSet, find_volumes, missing_volumes
from archiver.archive.publish import missing_packs
from archiver.errors import ArchiverError, skip_damaged
from archiver.storage.local import LocalStore

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from archiver.archive.bundles.records import Bundle
    from archiver.archive.bundles.volumes import FoundVolume
    from archiver.archive.seals import Snapshot
    from archiver.progress import Progress


class VerifiedVolume(msgspec.Struct, frozen=True):
    """A volume that was looked at; ``unfinished``: its export has not come to its end."""

    number: int
    path: str
    whole: bool
    unfinished: bool


class VerifiedSnapshot(msgspec.Struct, frozen=True):
    """A snapshot that a bundle carries; ``here``: these volumes have all of it."""

    id: str
    title: str
    here: bool


class VerifiedBundle(msgspec.Struct, frozen=True):
    """A bundle of which volumes were looked at; ``volumes`` is 0 if nothing here tells how many it has.

    ``base``: the inventory whose packs it leaves out.
    """

    bundle: str
    archive: str
    volumes: int
    present: tuple[VerifiedVolume, ...]
    missing: tuple[int, ...]
    snapshots: tuple[VerifiedSnapshot, ...]
    faults: tuple[VolumeFault, ...]
    base: str = ""

    @property
    def unfinished(self) -> bool:
        """Whether a volume was not written to its end."""
        return any(volume.unfinished for volume in self.present)


class VerifyReport(msgspec.Struct, frozen=True):
    """What was found out of each bundle."""

    bundles: tuple[VerifiedBundle, ...]

    @property
    def faults(self) -> tuple[VolumeFault, ...]:
        """All that is wrong with any file."""
        return tuple(fault for bundle in self.bundles for fault in bundle.faults)

    @property
    def incomplete(self) -> bool:
        """Whether a volume is missing or was not written to its end."""
        return any(bundle.missing or bundle.unfinished for bundle in self.bundles)


def verify_volumes(paths: Sequence[Path], progress: Progress) -> VerifyReport:
    """Read all of some volumes, of one bundle or of several.

    Raise UsageError if there is none in one of the folders, UnknownFormatError for a newer version's.
    """
    found = find_volumes(paths)
    sizes = [file.size or 0 for each in found for file in listed_files(each)]
    progress.expect(len(found), sum(sizes))
    groups: dict[str, list[FoundVolume]] = {}
    for each in found:
        groups.setdefault(each.bundle_id, []).append(each)
    return VerifyReport(tuple(_verified(key, group, progress) for key, group in groups.items()))


def _verified(key: str, found: list[FoundVolume], progress: Progress) -> VerifiedBundle:
    bundle = next((each.bundle for each in found if each.bundle), None)
    faults: list[VolumeFault] = []
    present = []
    for each in found:
        own = list(check_volume(each, lambda count: progress.advance(count, fetched=True)))
        faults += own
        present.append(VerifiedVolume(each.number, str(each.path), not own, each.unfinished))
        progress.end(str(each.path))
    count = next((each.volume.volumes for each in found if each.volume), 0)
    count = bundle.volumes if bundle else count
    volumes = VolumeSet((each.store for each in found), [bundle] if bundle else [])
    faults = list(_healed(volumes, faults))
    return VerifiedBundle(
        bundle=key,
        archive=bundle.archive if bundle else "",
        volumes=count,
        present=tuple(present),
        missing=tuple(missing_volumes(found, count)),
        snapshots=tuple(_snapshots(volumes, bundle, faults)) if bundle else (),
        faults=tuple(faults),
        base=bundle.base if bundle else "",
    )


def _snapshots(
    volumes: VolumeSet, bundle: Bundle, faults: Sequence[VolumeFault]
) -> Iterator[VerifiedSnapshot]:
    archive = volumes.archive(bundle.archive)
    held: dict[str, Snapshot] = {
        snapshot.id: snapshot for snapshot in archive.snapshots(skip_damaged)
    }
    hit = {layout.pack_of(stored_name(fault.name)) for fault in faults if not fault.healed}
    for each in bundle.snapshots:
        snapshot = held.get(each.id)
        here = snapshot is not None and not missing_packs(archive, snapshot.seal.packs)
        if here and snapshot is not None:
            here = hit.isdisjoint(pack for pack, _ in snapshot.seal.packs)
        yield VerifiedSnapshot(each.id, each.title, here)


def _healed(volumes: VolumeSet, faults: Sequence[VolumeFault]) -> Iterator[VolumeFault]:
    """Yield the faults, and of each whether parity mends it; what it gives is kept nowhere."""
    with ExitStack() as stack:
        tried: dict[str, bool] = {}
        for fault in faults:
            name = stored_name(fault.name)
            if fault.kind not in {"missing", "truncated", "damaged"} or not layout.digest_of(name):
                yield fault
                continue
            if name not in tried:
                scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="archiver-"))
                tried[name] = _can_heal(volumes, name, Path(scratch))
            yield msgspec.structs.replace(fault, healed=tried[name])


def _can_heal(volumes: VolumeSet, name: str, scratch: Path) -> bool:
    staged = LocalStore(scratch).stage("healed")
    try:
        return volumes.rebuild(name, staged)
    except (ArchiverError, FileNotFoundError):
        return False
    finally:
        staged.abort()
