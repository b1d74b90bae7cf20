"""Parity: make sidecars from which damaged files can be made whole, remove them, count them."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Final

import msgspec

from archiver.archive import layout
from archiver.archive.check.history import proofs_of, readable_events
from archiver.archive.parity.protect import Protected, all_names, names_of, protect, sidecar_of
from archiver.archive.parity.sidecar import read_sidecar
from archiver.archive.places import own_place, settled_place
from archiver.archive.policy import Policy
from archiver.archive.repair.reseal import repaired_events
from archiver.archive.repair.sidecars import PROTECTED_FILE
from archiver.archive.repair.whole_files import RepairedFile
from archiver.errors import ArchiverError, skip_damaged
from archiver.text import utc_now

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from archiver.archive.archive import Archive
    from archiver.archive.seals import Snapshot
    from archiver.progress import Progress

PARITY: Final = 2
"""Parity blocks of a group where neither the policy nor anybody says how many."""
KINDS: Final = {
    layout.PACKS: "packs",
    layout.MANIFESTS: "manifests",
    layout.SNAPSHOTS: "seals",
    layout.JOURNAL: "events",
}
"""Folder of a protected file -> what such files are called."""

Reference = tuple[str, str | None]
"""A repository and (the beginning of) a revision, or None for all of them."""


class Removed(msgspec.Struct, frozen=True):
    """The sidecars that were removed, and their size in bytes; ``shared`` were kept for other snapshots."""

    files: tuple[str, ...]
    bytes: int
    shared: int = 0


class KindStatus(msgspec.Struct, frozen=True):
    """Files of one kind: how many there are and how many are protected, with their sizes in bytes."""

    name: str
    files: int
    protected: int
    bytes: int
    protected_bytes: int
    parity_bytes: int


class ParityStatus(msgspec.Struct, frozen=True):
    """What is protected; ``wanted`` and ``group`` are the policy's, 0 parity blocks if it wants none."""

    wanted: int
    group: int
    kinds: tuple[KindStatus, ...]
    unprotected: tuple[str, ...]

    @property
    def bytes(self) -> int:
        """Of all files that parity is for."""
        return sum(one.bytes for one in self.kinds)

    @property
    def parity_bytes(self) -> int:
        """Of all their sidecars."""
        return sum(one.parity_bytes for one in self.kinds)

    @property
    def overhead(self) -> float:
        """Bytes of sidecars for each byte that they protect."""
        return self.parity_bytes / max(sum(one.protected_bytes for one in self.kinds), 1)


def add(
    archive: Archive,
    references: Sequence[Reference],
    *,
    parity: int | None,
    group: int | None,
    redo: bool,
    workers: int,
    progress: Progress,
) -> Protected:
    """Protect what the snapshots of ``references`` need; all that there is, if there are none.

    Raises:
        UsageError: There is no such snapshot, or no such parity.
        NoSpaceError: The disk is full; the sidecars made before stay.
    """
    _require_writable(archive)
    policy = archive.policy()
    snapshots = _chosen(archive, references)
    done = protect(
        archive,
        names_of(snapshots) if references else all_names(archive),
        parity=parity or policy.parity or PARITY,
        group=group or policy.parity_group,
        workers=workers,
        progress=progress,
        redo=redo,
    )
    _note_mended(archive, done)
    return done


def _note_mended(archive: Archive, done: Protected) -> None:
    """Journal which of the new sidecars stand in for ones that an audit had found damaged."""
    events = readable_events(archive.journal)
    known = proofs_of(events, utc_now(), own_place(archive)).broken
    mended = [
        RepairedFile(one, PROTECTED_FILE) for one in map(sidecar_of, done.made) if one in known
    ]
    if not mended:
        return
    for event in repaired_events(archive.journal, settled_place(archive).key, mended):
        archive.record(event)


def remove(archive: Archive, references: Sequence[Reference]) -> Removed:
    """Remove the sidecars that only the snapshots of ``references`` need; all, if there are none.

    They are no data: nothing that can be restored is lost, also where the policy forbids to delete.
    """
    _require_writable(archive)
    chosen = _chosen(archive, references)
    there = {name for name in archive.store.list(layout.PARITY) if layout.parity_of(name)}
    shared: set[str] = set()
    if references:
        ids = {one.id for one in chosen}
        others = [one for one in archive.snapshots(skip_damaged) if one.id not in ids]
        wanted = there & set(map(sidecar_of, names_of(chosen)))
        shared = wanted & set(map(sidecar_of, names_of(others)))
        there = wanted - shared
    size = 0
    for name in sorted(there):
        size += archive.store.stat(name) or 0
        archive.store.remove(name)
    return Removed(tuple(sorted(there)), size, len(shared))


def status(archive: Archive) -> ParityStatus:
    """Count what is protected; of each sidecar the header is read."""
    policy = _policy(archive)
    names = sorted(all_names(archive))
    sizes = {name: archive.store.stat(name) or 0 for name in names}
    parity = {name: _parity_bytes(archive, name) for name in names}
    kinds = [
        _counted(kind, {n: sizes[n] for n in names if n.startswith(f"{folder}/")}, parity)
        for folder, kind in KINDS.items()
    ]
    unprotected = tuple(name for name in names if not parity[name])
    return ParityStatus(policy.parity, policy.parity_group, tuple(kinds), unprotected)


def _counted(kind: str, sizes: dict[str, int], parity: dict[str, int]) -> KindStatus:
    protected = [name for name in sizes if parity[name]]
    return KindStatus(
        name=kind,
        files=len(sizes),
        protected=len(protected),
        bytes=sum(sizes.values()),
        protected_bytes=sum(sizes[name] for name in protected),
        parity_bytes=sum(parity[name] for name in protected),
    )


def _parity_bytes(archive: Archive, name: str) -> int:
    """The size of a file's sidecar; 0 if there is none whose header can be read."""
    place = sidecar_of(name)
    try:
        with closing(archive.store.open(place)) as reader:
            fits = read_sidecar(reader, place).header.file == name
            return reader.size if fits else 0
    except (ArchiverError, FileNotFoundError):
        return 0


def _policy(archive: Archive) -> Policy:
    try:
        return archive.policy()
    except ArchiverError:
        return Policy()  # what is there can be counted all the same


def _require_writable(archive: Archive) -> None:
    archive.require_writable()
    archive.store.require_writable()


def _chosen(archive: Archive, references: Iterable[Reference]) -> list[Snapshot]:
    """The snapshots of the repositories and revisions; UsageError if there are none of one."""
    return [one for name in references for one in archive.fitting(*name, skip_damaged)]
