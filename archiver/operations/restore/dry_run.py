"""What a restore would need: which packs, how large, and whether they are there. No file is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from archiver.archive import layout
from archiver.archive.packs.index import located
from archiver.archive.publish import missing_packs
from archiver.archive.quarantine import packs_for
from archiver.archive.seals import Snapshot
from archiver.operations.restore.files import selected_files
from archiver.operations.restore.tensor import TensorRequest, segments_of_tensor

if TYPE_CHECKING:
    from collections.abc import Iterable

    from archiver.archive.archive import Archive


class PlanRequest(msgspec.Struct, frozen=True):
    """What is to be restored: ``patterns`` choose files, ``tensor`` one tensor, of them or of all."""

    snapshot: Snapshot
    patterns: tuple[str, ...] = ()
    tensor: str = ""


class NeededPack(msgspec.Struct, frozen=True):
    """A pack that a restore reads.

    Attributes:
        pack: Its id.
        path: Its name in the archive; where it lies elsewhere, its name in quarantine or its path.
        size: Its bytes.
        there: Whether it is there. Of one that is not, it is not known which objects it has: all of those
            that lie nowhere else may be in it.
        objects: The objects of it that are read, and ``bytes``, what they take there.
    """

    pack: str
    path: str
    size: int
    there: bool
    objects: int = 0
    bytes: int = 0


class RestorePlan(msgspec.Struct, frozen=True):
    """What a restore would write and read; sizes in bytes.

    ``lacking`` are the files, or the one of the tensor, of which an object is in no pack that is there.
    """

    repository: str
    revision: str
    snapshot: str
    files: int
    bytes: int
    packs: tuple[NeededPack, ...]
    lacking: tuple[str, ...] = ()


def plan_restore(archive: Archive, request: PlanRequest) -> RestorePlan:
    """Return what a restore would need; raise as the restore does for what it cannot find."""
    snapshot, seal = request.snapshot, request.snapshot.seal
    wanted: list[tuple[str, Iterable[tuple[int, str]]]]
    if request.tensor:
        path, segments = segments_of_tensor(archive, _of_tensor(request))
        wanted = [(path, segments)]
        size = sum(count for count, _ in segments)
    else:
        files, _, _ = selected_files(archive, snapshot, request.patterns)
        wanted = [(entry.path, entry.segments) for entry in files]
        size = sum(entry.size for entry in files)
    index = packs_for(archive, snapshot)
    needed: dict[str, tuple[int, int]] = {}
    seen: dict[bytes, bool] = {}
    lacking = []
    for path, each in wanted:
        whole = True
        for _, digest in each:
            key = bytes.fromhex(digest)
            if key not in seen:
                place = index.locate(digest)
                seen[key] = place is not None
                if place is not None:
                    objects, count = needed.get(place[0], (0, 0))
                    needed[place[0]] = objects + 1, count + place[1].stored
            whole = whole and seen[key]
        if not whole:
            lacking.append(path)
    sizes = dict(seal.packs)
    there = [
        NeededPack(*_named(archive, pack, sizes), True, objects, count)
        for pack, (objects, count) in needed.items()
    ]
    gone = missing_packs(archive, seal.packs) if lacking else []
    absent = [
        NeededPack(pack, layout.pack_name(pack), sizes[pack], there=False)
        for pack in gone
        if pack not in needed and archive.pack_folders.size(pack) is None
    ]
    return RestorePlan(
        repository=seal.repository,
        revision=seal.revision,
        snapshot=snapshot.id,
        files=len(wanted),
        bytes=size,
        packs=tuple(sorted(there + absent, key=lambda pack: pack.path)),
        lacking=tuple(lacking),
    )


def _of_tensor(request: PlanRequest) -> TensorRequest:
    return TensorRequest(request.snapshot, request.tensor, patterns=request.patterns)


def _named(archive: Archive, pack: str, sizes: dict[str, int]) -> tuple[str, str, int]:
    """Return the id, the name and the size of a pack, by what the index calls it."""
    own, path = located(pack)
    size = sizes.get(own) or archive.store.stat(path) or 0
    return own, path, size
