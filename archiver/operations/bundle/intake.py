"""Import: take volumes into an archive, one after another, in any order, until snapshots are whole.

A pack is published once its bytes have its digest; alone it is nothing to any reader. Documents and pieces
wait in ``bundles/waiting/`` until all that their snapshot needs is there. Then every file of it is decoded
and hashed, and only then its seal is published.
"""

from __future__ import annotations

from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from archiver.archive import layout
from archiver.archive.archive import Archive
from archiver.archive.bundles.ledger import Ledger
from archiver.archive.bundles.records import (
    DOCUMENT_MAX,
    PIECES,
    VOLUME,
    is_carried,
    piece_of,
    stored_name,
)
from archiver.archive.bundles.volume_check import (
    Listed,
    VolumeFault,
    contradictions,
    listed_files,
    outer_fault,
)
from archiver.archive.bundles.volumes import FoundVolume, VolumeSet, find_volumes
from archiver.archive.fixity import file_digest, require_named, staged_right
from archiver.archive.journal import EVENT_MAX
from archiver.archive.parity.sidecar import read_sidecar
from archiver.archive.places import own_place
from archiver.archive.records import (
    FORMAT,
    MANIFEST_MAX,
    SEAL_MAX,
    ArchiveInfo,
    Features,
    parse_info,
)
from archiver.archive.signing.minisign import FILE_MAX, parse_signature
from archiver.archive.transfer import Flow, Transfer
from archiver.errors import (
    ArchiverError,
    DamageError,
    NoArchiveError,
    NoSpaceError,
    UnknownFormatError,
    UsageError,
)
from archiver.memory import MemoryBudget
from archiver.operations.bundle.publication import Publication, WaitingSnapshot
from archiver.storage.locks import RunLock
from archiver.storage.store import local_folder
from archiver.text import human_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from archiver.archive.bundles.records import Bundle
    from archiver.archive.bundles.volume_check import FaultKind
    from archiver.archive.transfer import Check
    from archiver.progress import Progress
    from archiver.storage.store import Reader, Store

_SIDECAR_MAX: Final = 5 << 30
_PACK_MAX: Final = (1 << 32) - 1
_PURPOSES: Final = ("copy", "put", "intent")

State = Literal["taken", "before", "damaged", "refused"]


class ImportRequest(msgspec.Struct, frozen=True):
    """Which volumes, and how; ``min_free`` bytes are to stay free on the archive's disk."""

    paths: tuple[Path, ...]
    min_free: int = 0
    memory: MemoryBudget = MemoryBudget()


class TakenVolume(msgspec.Struct, frozen=True):
    """A volume, and what became of it.

    Attributes:
        state: ``taken``: all of it is here now; ``before``: it was already; ``damaged``: some files of it
            could not be taken; ``refused``: none was.
        files: Of packs and pieces that were copied, and their ``bytes``.
    """

    bundle: str
    number: int
    volumes: int
    path: str
    state: State
    files: int = 0
    bytes: int = 0


class ImportReport(msgspec.Struct, frozen=True):
    """What came in.

    Attributes:
        volumes: Each that was given.
        faults: What is wrong with files of theirs.
        published: Titles of snapshots that are whole here now, every file proven, and were not before.
        present: Those that were here already.
        forgotten: Those that this archive forgot on purpose: they are not brought back.
        refused: Those that may not come in, each with the reason.
        waiting: Those that need more.
        events: Events that were recorded here; ``claims``: those that are kept as the other side's word.
        acknowledged: When the newest receipt of this place was written that the other side had when it
            made these bundles; ``""``: it had none that is known here.
    """

    volumes: tuple[TakenVolume, ...]
    faults: tuple[VolumeFault, ...]
    published: tuple[str, ...]
    present: tuple[str, ...]
    forgotten: tuple[str, ...]
    refused: tuple[tuple[str, str], ...]
    waiting: tuple[WaitingSnapshot, ...]
    events: int = 0
    claims: int = 0
    acknowledged: str = ""


def import_volumes(archive: Archive, request: ImportRequest, progress: Progress) -> ImportReport:
    """Take volumes into an archive; what is damaged is left out and named, the rest comes in.

    Raises:
        UsageError: There is no volume in one of the folders.
        UnknownFormatError: One of them was written by a newer version.
        LockedError: Another import is under way in this archive: both would use what waits.
        NoSpaceError: The archive's disk has no room; what came in before stays.
    """
    archive.require_writable()
    archive.store.require_writable()
    for purpose in _PURPOSES:
        for leftover in archive.store.leftovers(purpose):
            leftover.discard()
    with RunLock(local_folder(archive.store).scratch("bundle.lock"), "An import of a bundle"):
        return _Run(archive, request, progress).run()


def begin_archive(root: Path, paths: Sequence[Path]) -> Archive:
    """Begin an archive in an empty folder: a replica of the one that these volumes were taken from.

    One that a run before began is opened. Raise UsageError if the folder is not empty otherwise, or if
    these volumes do not say which archive that is.
    """
    found = find_volumes(paths)
    archives = {each.bundle.archive for each in found if each.bundle}
    if len(archives) != 1:
        raise UsageError(
            "These volumes do not say which one archive they were taken from.",
            hint="Begin with a volume whose bundle.json is whole ('archiver bundle verify').",
        )
    (archive,) = archives
    with suppress(NoArchiveError):
        begun = Archive.open(root)
        if begun.info.archive == archive:
            return begun
    for each in found:
        with suppress(ArchiverError, FileNotFoundError):
            info = parse_info(each.store.get(layout.INFO, 1 << 20))
            if info.archive == archive and (info.format, info.features) == (FORMAT, Features()):
                return Archive.create(root, info)
    tools = {each.bundle.tool for each in found if each.bundle}
    return Archive.create(root, ArchiveInfo(archive, created="", tool=min(tools)))


class _Run:
    """One run."""

    def __init__(self, archive: Archive, request: ImportRequest, progress: Progress) -> None:
        self._archive = archive
        self._request = request
        self._progress = progress
        self._ledger = Ledger(archive.store)
        self._faults: list[VolumeFault] = []
        self._publication = Publication(archive, self._ledger, request.memory)

    def run(self) -> ImportReport:
        found = find_volumes(self._request.paths)
        sizes = [file.size or 0 for each in found for file in listed_files(each)]
        self._progress.expect(len(found), sum(sizes))
        volumes = []
        bundles: dict[str, Bundle] = {}
        for each in found:
            bundle = each.bundle or self._known(each.bundle_id)
            taken = self._volume(each, bundle)
            volumes.append(taken)
            self._progress.end(str(each.path))
            if bundle is not None and taken.state != "refused":
                bundles[bundle.id] = bundle
        for bundle in bundles.values():
            self._mend(bundle, [each for each in found if each.bundle_id == bundle.id])
            self._publication.publish(bundle)
        for each in found:
            if each.bundle_id in bundles and not self._publication.is_over(bundles[each.bundle_id]):
                self._sidecars(each)
        for bundle in bundles.values():
            self._publication.end(bundle)
        outcome = self._publication
        return ImportReport(
            volumes=tuple(volumes),
            faults=tuple(self._faults),
            published=tuple(outcome.published),
            present=tuple(outcome.present),
            forgotten=tuple(outcome.forgotten),
            refused=tuple(outcome.refused),
            waiting=tuple(outcome.waiting),
            events=outcome.events,
            claims=outcome.claims,
            acknowledged=self._acknowledged(bundles.values()),
        )

    def _acknowledged(self, bundles: Iterable[Bundle]) -> str:
        place = own_place(self._archive).id
        had = {
            receipt
            for bundle in bundles
            if not isinstance(bundle.receipts, msgspec.UnsetType)
            for name, receipt in bundle.receipts
            if name == place
        }
        written = self._ledger.receipts() if had else ()
        return max((receipt.time for receipt in written if receipt.id in had), default="")

    def _known(self, bundle: str) -> Bundle | None:
        """Return what another volume of the same bundle said of it before."""
        return self._ledger.bundle(bundle) if bundle else None

    def _fault(self, found: FoundVolume, name: str, kind: FaultKind, message: str) -> None:
        self._faults.append(VolumeFault(found.number, str(found.path), name, kind, message))

    def _mend(self, bundle: Bundle, found: Sequence[FoundVolume]) -> None:
        """Publish what is damaged on these volumes, and what parity on any of them makes whole."""
        damaged = {
            stored_name(fault.name)
            for fault in self._faults
            if fault.kind in {"damaged", "truncated", "missing"}
        }
        stores = [self._ledger.waiting(bundle.id), *(each.store for each in found)]
        volumes = VolumeSet(stores, [bundle])
        for pack in bundle.packs():
            name = layout.pack_name(pack)
            if name not in damaged or self._archive.store.stat(name) is not None:
                continue
            staged = self._archive.store.stage("copy")
            try:
                if volumes.rebuild(name, staged):
                    staged.publish(name)
            finally:
                staged.abort()
        self._faults = [
            msgspec.structs.replace(fault, healed=True)
            if layout.pack_of(stored_name(fault.name))
            and self._archive.store.stat(stored_name(fault.name)) is not None
            else fault
            for fault in self._faults
        ]

    # ---- a volume

    def _volume(self, found: FoundVolume, bundle: Bundle | None) -> TakenVolume:
        taken = TakenVolume(
            found.bundle_id,
            found.number,
            bundle.volumes if bundle else 0,
            str(found.path),
            "refused",
        )
        refusal = list(contradictions(found)) + list(self._against_ledger(found))
        self._faults += refusal
        if refusal or bundle is None or found.unfinished:
            if not refusal:
                self._tell_problems(found)
            return taken
        self._tell_problems(found)  # what such a list has are files with proofs of their own
        self._ledger.note_received(bundle)
        settled = self._publication.has_all(bundle)
        missing = [file for file in listed_files(found) if self._is_wanted(file, settled=settled)]
        before = self._ledger.volume(bundle.id, found.number) is not None
        if before and not missing:
            return msgspec.structs.replace(taken, state="before")
        self._require_room(found, missing)
        waiting = self._ledger.waiting(bundle.id)
        volume = _Intake(self._archive, found, bundle, waiting, self._progress)
        count = size = faults = 0
        for file in sorted(missing, key=lambda file: file.name.startswith((layout.PACKS, PIECES))):
            fault = volume.take(file)
            if fault is not None:
                self._fault(found, file.name, *fault)
                faults += 1
            elif file.name.startswith((layout.PACKS, PIECES)):
                count += 1
                size += file.size or 0
        for name, message in volume.join():
            self._fault(found, name, "damaged", message)
        waiting.barrier()  # before anybody is told that the medium is not needed any more
        if not faults and found.volume is not None:
            self._ledger.note_volume(found.store.get(VOLUME, DOCUMENT_MAX), found.volume)
        state: State = "damaged" if faults else "taken" if volume.copied or not before else "before"
        return msgspec.structs.replace(taken, state=state, files=count, bytes=size)

    def _tell_problems(self, found: FoundVolume) -> None:
        """Note what is wrong with the lists of a volume."""
        for name, message in found.problems:
            kind: FaultKind = "missing" if found.unfinished else "damaged"
            self._fault(found, name, kind, message)

    def _against_ledger(self, found: FoundVolume) -> list[VolumeFault]:
        """Return the files of which this volume says something else than it did when it came in before."""
        if found.volume is None:
            return []
        before = self._ledger.volume(found.volume.bundle, found.volume.number)
        if before is None:
            return []
        known = {file.name: file for file in before.files}
        return [
            VolumeFault(
                found.number,
                str(found.path),
                file.name,
                "contradicts",
                f"{found.path / file.name} has another digest than when volume {found.number} of "
                f"this bundle came in before.",
            )
            for file in found.volume.files
            if file.name in known
            and is_carried(file.name)
            and known[file.name] != file
            and layout.parity_of(file.name) is None
        ]

    def _is_wanted(self, file: Listed, *, settled: bool) -> bool:
        """Return whether a file is still to come in; ``settled``: its bundle's snapshots are all here."""
        if not is_carried(file.name) or layout.parity_of(stored_name(file.name)):
            return False
        name = stored_name(file.name)
        if layout.pack_of(name):
            size = self._archive.store.stat(name)
            return size is None or (not piece_of(file.name) and file.size not in {None, size})
        if settled and layout.signature_of(name) is None:
            return False
        return not self._publication.is_settled(name)

    def _require_room(self, found: FoundVolume, missing: Sequence[Listed]) -> None:
        free = self._archive.store.free_bytes()
        needed = sum(file.size or 0 for file in missing) + self._request.min_free
        # Pieces are joined beside themselves.
        needed += max((file.size or 0 for file in missing if piece_of(file.name)), default=0)
        if free is not None and free < needed:
            raise NoSpaceError(
                f"{found.title} needs {human_bytes(needed)}, of which --min-free keeps "
                f"{human_bytes(self._request.min_free)}; {human_bytes(free)} are free on the disk of "
                f"{self._archive.store.address}.",
                hint="Nothing of it was taken in. Free some room, and run the same command again.",
            )

    def _sidecars(self, found: FoundVolume) -> None:
        """Bring over the parity of files that are here now and have none; that of others waits as well."""
        waiting = self._ledger.waiting(found.bundle_id)
        for file in listed_files(found):
            if layout.parity_of(file.name) and not self._has(file.name, waiting):
                fault = outer_fault(found.store, file)
                if fault is not None:
                    self._fault(found, file.name, *fault)
                    continue
                self._sidecar(found.store, file.name, found, waiting)
        for name in list(waiting.list(layout.PARITY)):
            if self._is_protected(name) and self._archive.store.stat(name) is None:
                self._sidecar(waiting, name, found, waiting)
        waiting.barrier()

    def _has(self, name: str, waiting: Store) -> bool:
        return any(store.stat(name) is not None for store in (self._archive.store, waiting))

    def _is_protected(self, name: str) -> bool:
        """Return whether the file that a sidecar protects is here."""
        digest = layout.parity_of(name) or ""
        if self._archive.store.stat(layout.pack_name(digest)) is not None:
            return True
        return self._publication.has_document(digest)

    def _sidecar(self, source: Store, name: str, found: FoundVolume, waiting: Store) -> None:
        """Copy one, to the archive or to where it waits; one that is not right is a fault, or nobody's."""
        target = self._archive.store if self._is_protected(name) else waiting
        with suppress(UnknownFormatError):
            check = partial(_require_sidecar, name=name)
            result = Transfer(source, target, Flow(None)).copy(name, _SIDECAR_MAX, check)
            if result.problem and source is not waiting:
                self._fault(found, name, "damaged", result.problem)


class _Intake:
    """Takes the files of one volume."""

    def __init__(
        self,
        archive: Archive,
        found: FoundVolume,
        bundle: Bundle,
        waiting: Store,
        progress: Progress,
    ) -> None:
        self._archive = archive
        self._found = found
        self._bundle = bundle
        self._waiting = waiting
        flow = Flow(progress)
        self.copied = 0
        """Files that were not here."""
        self._to_archive = Transfer(found.store, archive.store, flow)
        self._to_waiting = Transfer(found.store, waiting, flow)

    def take(self, file: Listed) -> tuple[FaultKind, str] | None:
        """Bring one file over; return what is wrong with it, kind and sentence, if it could not be."""
        if not layout.pack_of(file.name) and self._is_there(file):
            return None
        fault = outer_fault(self._found.store, file)
        if fault is not None:
            return fault
        self.copied += 1
        if layout.pack_of(file.name):
            result = self._to_archive.copy(file.name, _PACK_MAX)
        else:
            result = self._to_waiting.copy(file.name, _limit(file), _check_of(file))
        if not result.problem:
            return None
        if result.denied:
            return "unreadable", result.problem
        return "damaged", f"{self._found.path / file.name} is damaged: {result.problem}"

    def _is_there(self, file: Listed) -> bool:
        """Return whether it waits already, from this volume or another, and is right."""
        if self._waiting.stat(file.name) is None:
            return False
        try:
            with closing(self._waiting.open(file.name)) as reader:
                _check_of(file)(reader)
        except (ArchiverError, FileNotFoundError):
            return False
        return True

    def join(self) -> list[tuple[str, str]]:
        """Publish the packs all of whose pieces are there; return those that are not as they should be."""
        both = VolumeSet([self._waiting, self._found.store], [self._bundle])  # type: ignore[list-item] # the waiting room is a folder
        problems = []
        pieces: dict[str, list[str]] = {}
        for name in self._waiting.list(PIECES):
            pieces.setdefault(stored_name(name), []).append(name)
        for name, parts in sorted(pieces.items()):
            if len(both.pieces(name)) != len(parts) or not both.pieces(name):
                continue
            if layout.pack_of(name):
                if not self._joined(both, name):
                    problems.append(
                        (name, f"The pieces of {name}, put together, are not that pack.")
                    )
                for part in parts:
                    self._waiting.remove(part)
        return problems

    def _joined(self, both: VolumeSet, name: str) -> bool:
        if self._archive.store.stat(name) == both.stat(name):
            return True
        staged = self._archive.store.stage("copy")
        try:
            with closing(both.open(name)) as reader:
                buffer = memoryview(bytearray(4 << 20))
                for at in range(0, reader.size, len(buffer)):
                    staged.write(buffer[: reader.read_into(at, buffer)])
            whole = staged_right(staged, name)
            if not whole:
                staged.cut(0)
                whole = both.rebuild(name, staged)
            if whole:
                staged.publish(name)
        finally:
            staged.abort()
        return whole


def _limit(file: Listed) -> int:
    if piece_of(file.name):
        return _PACK_MAX
    if file.name.startswith(layout.MANIFESTS):
        return MANIFEST_MAX
    return {layout.SNAPSHOTS: SEAL_MAX, layout.JOURNAL: EVENT_MAX, layout.SIGNATURES: FILE_MAX}[
        file.name.partition("/")[0]
    ]


def _check_of(file: Listed) -> Check:
    if piece_of(file.name):
        return partial(_require_digest, file=file)
    if layout.signature_of(file.name):
        return partial(_require_signature, name=file.name)
    return partial(require_named, name=file.name)


def _require_digest(reader: Reader, file: Listed) -> None:
    """Require the digest that the volume's list has; where that is lost, the whole file's will tell."""
    if file.blake3 and file_digest(reader) != file.blake3:
        raise DamageError("its bytes have another digest.", path=file.name)


def _require_signature(reader: Reader, name: str) -> None:
    data = bytearray(reader.size)
    reader.read_into(0, memoryview(data))
    signature = layout.signature_of(name)
    if signature is None or parse_signature(bytes(data)).key != signature.key:
        raise DamageError(f"{name} is not a signature by the key that its name has.", path=name)


def _require_sidecar(reader: Reader, name: str) -> None:
    sidecar = read_sidecar(reader, name)
    if (
        sidecar.faults
        or sidecar.bad_blocks()
        or layout.digest_of(sidecar.header.file) != layout.parity_of(name)
    ):
        raise DamageError(f"{name} is damaged.", path=name)
