"""Parity: make sidecars from which damaged files can be made whole, remove them, count them."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Final

import msgspec

from archiver.archive import layout
from archiver.archive.check.proofs import proofs_of, standing_proofs
from archiver.archive.parity.coverage import files_of_snapshots, protectable_files, sidecar_name
from archiver.archive.parity.protect import PROTECTOR_BYTES, ProtectionReport, protect
from archiver.archive.parity.sidecar import PARITY_DEFAULT, read_sidecar
from archiver.archive.places import own_place, settled_place
from archiver.archive.policy import Policy
from archiver.archive.repair.reseal import repaired_events
from archiver.archive.repair.sidecars import PROTECTED_FILE
from archiver.archive.repair.stored_files import RepairedFile
from archiver.errors import ArchiverError, skip_damaged
from archiver.memory import MemoryBudget
from archiver.text import utc_now

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from archiver.archive.archive import Archive
    from archiver.archive.seals import Snapshot
    from archiver.progress import Progress

_KINDS: Final = {
    layout.PACKS: "packs",
    layout.MANIFESTS: "manifests",
    layout.SNAPSHOTS: "seals",
    layout.JOURNAL: "events",
}
"""Folder of a protected file -> what such files are called."""

Reference = tuple[str, str | None]
"""A repository and (the beginning of) a revision, or None for all of them."""


class ParityRequest(msgspec.Struct, frozen=True):
    """What to protect, and how.

    Attributes:
        references: Only what their snapshots need; all that there is if there are none.
        parity: Parity blocks of a group; None for the policy's.
        group: Data blocks of a group, at most; None for the policy's.
        redo: Also make sidecars anew that are good.
        memory: What this may take, and so how many threads work.
    """

    references: tuple[Reference, ...] = ()
    parity: int | None = None
    group: int | None = None
    redo: bool = False
    memory: MemoryBudget = MemoryBudget()


def add_parity(archive: Archive, request: ParityRequest, progress: Progress) -> ProtectionReport:
    """Protect what the snapshots of the references need; all that there is, if there are none.

    Raises:
        UsageError: There is no such snapshot, or no such parity.
        NoSpaceError: The disk is full; the sidecars made before stay.
    """
    archive.require_writable()
    archive.store.require_writable()
    policy = archive.policy()
    snapshots = _snapshots(archive, request.references)
    report = protect(
        archive,
        files_of_snapshots(snapshots) if request.references else protectable_files(archive),
        parity=request.parity or policy.parity or PARITY_DEFAULT,
        group=request.group or policy.parity_group,
        workers=request.memory.workers(PROTECTOR_BYTES),
        progress=progress,
        redo=request.redo,
    )
    _journal_repaired(archive, report)
    return report


def _journal_repaired(archive: Archive, report: ProtectionReport) -> None:
    """Journal which of the new sidecars stand in for ones that an audit had found damaged."""
    damaged = proofs_of(standing_proofs(archive.journal), utc_now(), own_place(archive)).broken
    sidecars = [name for name in map(sidecar_name, report.made) if name in damaged]
    if sidecars:
        repaired = [RepairedFile(name, PROTECTED_FILE) for name in sidecars]
        for event in repaired_events(archive.journal, settled_place(archive).key, repaired):
            archive.record(event)


class RemovedParity(msgspec.Struct, frozen=True):
    """The sidecars that were removed, and their size in bytes; ``shared`` stay for other snapshots."""

    files: tuple[str, ...]
    bytes: int
    shared: int = 0


def remove_parity(archive: Archive, references: Sequence[Reference]) -> RemovedParity:
    """Remove the sidecars that only the snapshots of ``references`` need; all, if there are none.

    They are no data: nothing that can be restored is lost, also where the policy forbids to delete.
    """
    archive.require_writable()
    archive.store.require_writable()
    snapshots = _snapshots(archive, references)
    sidecars = {name for name in archive.store.list(layout.PARITY) if layout.parity_of(name)}
    shared: set[str] = set()
    if references:
        ids = {snapshot.id for snapshot in snapshots}
        others = [each for each in archive.snapshots(skip_damaged) if each.id not in ids]
        sidecars &= set(map(sidecar_name, files_of_snapshots(snapshots)))
        shared = sidecars & set(map(sidecar_name, files_of_snapshots(others)))
    removed = sorted(sidecars - shared)
    size = 0
    for name in removed:
        size += archive.store.stat(name) or 0
        archive.store.remove(name)
    return RemovedParity(tuple(removed), size, len(shared))


def _snapshots(archive: Archive, references: Iterable[Reference]) -> list[Snapshot]:
    """Return the snapshots of the repositories and revisions; UsageError if there are none of one."""
    return [
        snapshot
        for repository, revision in references
        for snapshot in archive.fitting(repository, revision, skip_damaged)
    ]


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
        return sum(kind.bytes for kind in self.kinds)

    @property
    def parity_bytes(self) -> int:
        """Of all their sidecars."""
        return sum(kind.parity_bytes for kind in self.kinds)

    @property
    def overhead(self) -> float:
        """Bytes of sidecars for each byte that they protect."""
        return self.parity_bytes / max(sum(kind.protected_bytes for kind in self.kinds), 1)


def parity_status(archive: Archive) -> ParityStatus:
    """Count what is protected; of each sidecar the header is read."""
    try:
        policy = archive.policy()
    except ArchiverError:
        policy = Policy()  # what is there can be counted all the same
    names = sorted(protectable_files(archive))
    sizes = {name: archive.store.stat(name) or 0 for name in names}
    parity = {name: _parity_bytes(archive, name) for name in names}
    kinds = []
    for folder, kind in _KINDS.items():
        files = [name for name in names if name.startswith(f"{folder}/")]
        protected = [name for name in files if parity[name]]
        kinds.append(
            KindStatus(
                name=kind,
                files=len(files),
                protected=len(protected),
                bytes=sum(sizes[name] for name in files),
                protected_bytes=sum(sizes[name] for name in protected),
                parity_bytes=sum(parity[name] for name in protected),
            )
        )
    unprotected = tuple(name for name in names if not parity[name])
    return ParityStatus(policy.parity, policy.parity_group, tuple(kinds), unprotected)


def _parity_bytes(archive: Archive, name: str) -> int:
    """Return the size of a file's sidecar; 0 if there is none whose header can be read."""
    sidecar = sidecar_name(name)
    try:
        with closing(archive.store.open(sidecar)) as reader:
            return reader.size if read_sidecar(reader, sidecar).header.file == name else 0
    except (ArchiverError, FileNotFoundError):
        return 0
