"""Export: write snapshots to volumes, each of which says what it is and can be checked alone.

The order on each volume survives any crash: ``bundle.json``, then what explains it, documents and packs,
then the lists of what is there, and ``volume.json`` last. What is there already and right is kept.
"""

from __future__ import annotations

import hashlib
import tempfile
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
from blake3 import blake3

from archiver.archive import layout
from archiver.archive.archive import Archive
from archiver.archive.bundles.ledger import Ledger
from archiver.archive.bundles.records import (
    BUNDLE,
    DOCUMENT_MAX,
    SHEET,
    START,
    SUMS,
    VOLUME,
    VOLUME_LEAST,
    Bundle,
    StoredFile,
    Volume,
    checked,
    file_of,
    folder_of,
    piece_of,
    portable_name,
    stored_name,
)
from archiver.archive.bundles.volumes import read_volume
from archiver.archive.editions import newest_explanations
from archiver.archive.events import TOOL
from archiver.archive.fixity import file_digest
from archiver.archive.parity.protect import PROTECTOR_BYTES, protect
from archiver.archive.place_look import look_at, no_answer
from archiver.archive.publish import closure_names
from archiver.archive.records import info_file
from archiver.buffers import workspace
from archiver.digest import blake3_hex
from archiver.errors import (
    ArchiverError,
    DamageError,
    ExitCode,
    NoSpaceError,
    UnknownFormatError,
    UsageError,
)
from archiver.memory import MemoryBudget
from archiver.operations.bundle.contents import bundle_of, contents_of, read_inventory
from archiver.operations.bundle.sheet import sheet_of, start_page, subjects_of, sums_of
from archiver.progress import Progress
from archiver.storage.files import make_folder
from archiver.storage.filesystem import free_bytes
from archiver.storage.local import LocalStore
from archiver.text import human_bytes, plural

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from archiver.archive.bundles.records import BundledFile, Inventory
    from archiver.archive.seals import Snapshot
    from archiver.storage.store import Reader, Staged, Store

_PURPOSES: Final = ("bundle", "put", "parity", "parity-blocks")
_PIECE: Final = 4 << 20
_ROUND: Final = 1 << 20
"""Room that a volume's small files may take beside what was counted."""


class ExportRequest(msgspec.Struct, frozen=True):
    """What to carry, and onto what.

    Attributes:
        references: The snapshots, as repository and (beginning of a) revision or seal's id; of each the
            one that a restore would choose.
        to: The folder in which the volumes' folders are made.
        volume_size: Bytes that a volume may take.
        volume: Only this one, such as onto a medium that holds one; None: all.
        inventory: A file that says what the far side has; None: nothing.
        parity: Parity blocks of a group, and data blocks of a group; None: no parity.
        dry_run: Only plan.
        memory: What this may take.
    """

    references: tuple[tuple[str, str | None], ...]
    to: Path
    volume_size: int
    volume: int | None = None
    inventory: Path | None = None
    parity: tuple[int, int] | None = None
    dry_run: bool = False
    memory: MemoryBudget = MemoryBudget()


class WrittenVolume(msgspec.Struct, frozen=True):
    """A volume that is complete: its folder, its files and bytes, and how many files were there already."""

    number: int
    path: str
    files: int
    bytes: int
    kept: int


class ExportReport(msgspec.Struct, frozen=True):
    """What was written, or would be.

    Attributes:
        bundle: The bundle's id.
        volumes: How many volumes it has.
        sizes: Bytes of files on each of them, without those in its root.
        snapshots: Titles of what it carries.
        packs: How many packs it carries, and their bytes together.
        left_out: How many packs of its snapshots the inventory has, so that they are not carried.
        written: The volumes that are complete now, of those that were asked for.
        again: Whether it goes on with a bundle that was begun before.
    """

    bundle: str
    archive: str
    volumes: int
    sizes: tuple[int, ...]
    snapshots: tuple[str, ...]
    packs: int
    bytes: int
    left_out: int
    written: tuple[WrittenVolume, ...]
    again: bool
    dry_run: bool


def export(archive: Archive, request: ExportRequest, progress: Progress) -> ExportReport:
    """Write a bundle's volumes, or the one that is asked for.

    Raises:
        UsageError: There is no such snapshot or volume, the volumes are too small, or another bundle lies
            where they are to be written.
        DamageError: What is to be carried is not whole in the archive.
        NoSpaceError: The medium is full.
        ArchiverError: The medium cannot be written to, or is gone.
    """
    return _Run(archive, request, progress).run()


class _Run:
    """One run."""

    def __init__(self, archive: Archive, request: ExportRequest, progress: Progress) -> None:
        self._archive = archive
        self._request = request
        self._progress = progress
        self._inventory: Inventory | None = (
            read_inventory(request.inventory) if request.inventory else None
        )
        self._require_target()
        self._snapshots = self._chosen()
        self._subjects = subjects_of(archive, self._snapshots)
        self._again = False
        self.proven: set[str] = set()
        """The BLAKE3 of files that are carried in pieces, and that are whole."""
        self._bundle = self._planned()
        self._sources = self._stored_names()

    def run(self) -> ExportReport:
        request, bundle = self._request, self._bundle
        numbers = list(range(1, bundle.volumes + 1))
        if request.volume is not None:
            if request.volume not in numbers:
                raise UsageError(
                    f"This bundle has {plural(bundle.volumes, 'volume')}; there is no volume "
                    f"{request.volume}.",
                    hint=f"Nothing was written. The last is --volume {bundle.volumes}.",
                )
            numbers = [request.volume]
        written: list[WrittenVolume] = []
        if not request.dry_run:
            Ledger(self._archive.store).note_sent(bundle)
            files = [file for file in bundle.files if file.volume in numbers]
            self._progress.expect(len(files), sum(file.size for file in files))
            written += map(self._volume, numbers)
        packs = bundle.packs()
        needed = {pack for each in self._snapshots for pack, _ in each.seal.packs}
        return ExportReport(
            bundle=bundle.id,
            archive=bundle.archive,
            volumes=bundle.volumes,
            sizes=tuple(
                sum(file.size for file in bundle.on(number))
                for number in range(1, bundle.volumes + 1)
            ),
            snapshots=tuple(each.title for each in self._snapshots),
            packs=len(packs),
            bytes=sum(packs.values()),
            left_out=len(needed - packs.keys()),
            written=tuple(written),
            again=self._again,
            dry_run=request.dry_run,
        )

    # ---- what and where

    def _require_target(self) -> None:
        to = self._request.to
        look = look_at(to)
        if not look.answered:
            raise no_answer(to)
        if look.unmounted:
            raise UsageError(
                f"{to} lies on a disk that is not mounted at {look.unmounted}.",
                hint="Nothing was written. Mount it, or choose another folder.",
            )
        folder = self._archive.store.folder
        if folder is not None and to.resolve().is_relative_to(folder.path.resolve()):
            raise UsageError(
                f"{to} lies in the archive itself.", hint="Write the volumes to another folder."
            )
        if to.exists() and not to.is_dir():
            raise UsageError(f"{to} is not a folder.", hint="Choose a folder for the volumes.")
        if self._request.volume_size < VOLUME_LEAST:
            raise UsageError(
                f"A volume must have at least {human_bytes(VOLUME_LEAST)}.",
                hint="Give more with --volume-size.",
            )

    def _chosen(self) -> list[Snapshot]:
        chosen: dict[str, Snapshot] = {}
        for repository, revision in self._request.references:
            snapshot = self._archive.find(repository, revision)
            if not snapshot.sealed:
                raise DamageError(
                    f"The seal of {snapshot.title} is lost: there is nothing that vouches for it.",
                    hint="Nothing was written. Run 'archiver repair', then export again.",
                )
            chosen.setdefault(snapshot.id, snapshot)
        if not chosen:
            raise UsageError("Name what is to be carried, as REPO or REPO@REVISION.")
        return list(chosen.values())

    def _planned(self) -> Bundle:
        """Return the bundle that was begun before, if one says the same, or a new one."""
        begun = list(self._begun_there())
        if self._request.volume is not None:
            # On the media before it, and perhaps not at hand: the archive knows it.
            begun += Ledger(self._archive.store).sent()
        for bundle in begun:
            if self._says_the_same(bundle):
                self._again = True
                return bundle
        contents = contents_of(
            self._archive, self._snapshots, self._inventory, self._request.parity
        )
        return bundle_of(
            self._archive,
            contents,
            self._request.volume_size,
            self._inventory,
            self._request.parity,
            lambda bundle: len(sheet_of(bundle, self._subjects)) + _ROUND // 8,
        )

    def _begun_there(self) -> Iterator[Bundle]:
        if not self._request.to.is_dir():
            return
        for folder in sorted(self._request.to.glob("volume-[0-9][0-9][0-9][0-9]")):
            with suppress(UnknownFormatError):
                bundle = read_volume(folder).bundle
                if bundle is not None:
                    yield bundle

    def _says_the_same(self, bundle: Bundle) -> bool:
        request = self._request
        base = self._inventory.id if self._inventory else ""
        return (
            bundle.archive == self._archive.info.archive
            and [each.id for each in bundle.snapshots] == [each.id for each in self._snapshots]
            and (bundle.volume_size, bundle.base) == (request.volume_size, base)
            and (bundle.parity, bundle.tool) == (request.parity, TOOL)
        )

    def _stored_names(self) -> dict[str, str]:
        """Return, for documents that lie elsewhere on a volume, the name that they have in the archive."""
        names: dict[str, str] = {}
        for snapshot in self._snapshots:
            seal = layout.seal_name(snapshot.seal.repository, snapshot.seal.revision, snapshot.id)
            manifest = closure_names(snapshot.seal)[0]
            names[portable_name(seal)] = snapshot.name
            names[portable_name(manifest)] = manifest
        return names

    # ---- one volume

    def _volume(self, number: int) -> WrittenVolume:
        folder = self._request.to / folder_of(number)
        try:
            make_folder(folder, folder)
            return _VolumeWriter(self._archive, self._bundle, number, folder, self).write()
        except DamageError:
            raise
        except OSError as error:
            raise ArchiverError(
                f"{folder}: {error.strerror or error}, while {folder_of(number)} was written.",
                hint=self._go_on(number),
            ) from error
        except ArchiverError as error:
            error.hint = f"{error.hint} {self._go_on(number)}".strip()
            raise

    def _go_on(self, number: int) -> str:
        return (
            f"Volume {number} of {self._bundle.volumes} is not complete. Once its medium is there, with "
            f"enough room, run the same command again (--volume {number} for this one alone): what is "
            "on it already is kept."
        )

    # ---- asked by the writer

    @property
    def memory(self) -> MemoryBudget:
        return self._request.memory

    @property
    def progress(self) -> Progress:
        return self._progress

    def source(self, name: str) -> str:
        return self._sources.get(name, name)

    def sheet(self) -> bytes:
        return sheet_of(self._bundle, self._subjects)


class _VolumeWriter:
    """Writes one volume, and what is missing of it."""

    def __init__(
        self, archive: Archive, bundle: Bundle, number: int, folder: Path, run: _Run
    ) -> None:
        self._archive = archive
        self._bundle = bundle
        self._number = number
        self._store = LocalStore(folder)
        self._run = run
        self._files: dict[str, StoredFile] = {}
        self._kept = 0

    def write(self) -> WrittenVolume:
        found = read_volume(self._store.path)
        if found.bundle_id and found.bundle_id != self._bundle.id:
            raise UsageError(
                f"{self._store.path} has a volume of another bundle ({found.bundle_id[:16]}…).",
                hint="It was left as it is. Choose another folder, or remove that one.",
            )
        for purpose in _PURPOSES:
            for leftover in self._store.leftovers(purpose):
                leftover.discard()
        planned = self._bundle.on(self._number)
        self._require_room(planned)
        self._put(BUNDLE, self._bundle.data)
        newest = newest_explanations(self._archive.store)
        for explanation in self._bundle.explanations:
            data = newest[explanation.name]
            if hashlib.sha256(data).hexdigest() != explanation.sha256:
                raise UsageError(
                    f"{explanation.name} is another one than when this bundle was begun.",
                    hint="Export into a new folder.",
                )
            self._put(explanation.name, data)
        self._put(layout.INFO, info_file(self._archive.info))
        for file in planned:
            if file.blake3:
                self._carry(file)
        self._protect(planned)
        self._put(SHEET, self._run.sheet())
        self._put(START, start_page(self._bundle, self._number))
        self._put(SUMS, sums_of(self._listed()))
        volume = Volume(self._bundle.id, self._number, self._bundle.volumes, self._listed(), TOOL)
        self._tidy()
        self._put(VOLUME, file_of(checked(volume)), listed=False)
        self._tidy()
        return WrittenVolume(
            self._number,
            str(self._store.path),
            len(volume.files) + 1,
            sum(file.size for file in volume.files),
            self._kept,
        )

    def _listed(self) -> tuple[StoredFile, ...]:
        return tuple(self._files[name] for name in sorted(self._files))

    def _require_room(self, planned: Iterable[BundledFile]) -> None:
        free = free_bytes(self._store.path)
        needed = sum(file.size for file in planned if self._store.stat(file.name) != file.size)
        if free is not None and free < needed + _ROUND:
            raise NoSpaceError(
                f"Volume {self._number} needs {human_bytes(needed)} more; {human_bytes(free)} are free "
                f"on the disk of {self._store.path}.",
                hint="Take a larger medium, or make the volumes smaller with --volume-size.",
            )

    def _put(self, name: str, data: bytes, *, listed: bool = True) -> None:
        """Have a small file there, with these bytes."""
        try:
            there = self._store.get(name, max(DOCUMENT_MAX, len(data)))
        except (DamageError, FileNotFoundError):
            there = b""
        if there != data:
            with _staged(self._store) as staged:
                staged.write(data)
                _require_written(staged, blake3_hex(data))
                staged.publish(name)
        if listed:
            sha256 = hashlib.sha256(data).hexdigest()
            self._files[name] = StoredFile(name, len(data), blake3_hex(data), sha256)

    def _carry(self, file: BundledFile) -> None:
        """Have a file, or a piece of one, there; what is written is read back."""
        self._require_whole(file)
        if self._store.stat(file.name) == file.size:
            with closing(self._store.open(file.name)) as reader:
                stored = self._digests(file, reader)
            if stored.blake3 == self._wanted(file):
                self._files[file.name] = stored
                self._kept += 1
                self._run.progress.advance(file.size, fetched=False)
                self._run.progress.end(file.name)
                return
        stored = self._written(file)
        self._files[file.name] = stored
        self._run.progress.end(file.name)

    def _wanted(self, file: BundledFile) -> str:
        """Return the BLAKE3 that the file must have; of a piece, what the archive's bytes give."""
        if not piece_of(file.name):
            return file.blake3
        with closing(self._open(file)) as reader:
            return self._digests(file, reader, file.offset).blake3

    def _open(self, file: BundledFile) -> Reader:
        name = self._run.source(stored_name(file.name))
        try:
            return self._archive.store.open(name)
        except FileNotFoundError:
            raise DamageError(
                f"{name} is missing.",
                hint="Run 'archiver repair', then the same export again: it goes on.",
                path=name,
            ) from None

    @staticmethod
    def _digests(file: BundledFile, reader: Reader, offset: int = 0) -> StoredFile:
        plain, sha256 = blake3(), hashlib.sha256()
        reader.fresh()
        for piece in _stretch(reader, offset, file.size):
            plain.update(piece)
            sha256.update(piece)
        return StoredFile(file.name, file.size, plain.hexdigest(), sha256.hexdigest())

    def _written(self, file: BundledFile) -> StoredFile:
        plain, sha256 = blake3(), hashlib.sha256()
        with closing(self._open(file)) as reader, _staged(self._store) as staged:
            for piece in _stretch(reader, file.offset, file.size):
                plain.update(piece)
                sha256.update(piece)
                staged.write(piece)
                self._run.progress.advance(len(piece), fetched=True)
            if not piece_of(file.name) and plain.hexdigest() != file.blake3:
                raise self._damaged(file)
            _require_written(staged, plain.hexdigest())
            staged.publish(file.name)
        return StoredFile(file.name, file.size, plain.hexdigest(), sha256.hexdigest())

    def _require_whole(self, file: BundledFile) -> None:
        """Prove a file that goes in pieces, once a run: no piece has a digest that anybody else knows."""
        if not piece_of(file.name) or file.blake3 in self._run.proven:
            return
        with closing(self._open(file)) as reader:
            if file_digest(reader) != file.blake3:
                raise self._damaged(file)
        self._run.proven.add(file.blake3)

    def _damaged(self, file: BundledFile) -> DamageError:
        name = self._run.source(stored_name(file.name))
        return DamageError(
            f"{name} is damaged in the archive: its bytes have another digest.",
            hint="It was not written. Run 'archiver repair', then the same export again: it goes on.",
            path=name,
            pack=layout.pack_of(name) or "",
        )

    # ---- parity

    def _protect(self, planned: Iterable[BundledFile]) -> None:
        """Make the sidecars that this volume is to have, from the archive's files."""
        if self._bundle.parity is None:
            return
        sidecars = {file.name for file in planned if not file.blake3}
        digests = {layout.parity_of(name) for name in sidecars}
        names = sorted(
            {
                self._run.source(stored_name(file.name))
                for file in self._bundle.files
                if file.blake3 and layout.digest_of(stored_name(file.name)) in digests
            }
        )
        parity, group = self._bundle.parity
        with tempfile.TemporaryDirectory(prefix="archiver-") as scratch:
            store = _SplitStore(self._archive.store, self._store, LocalStore(Path(scratch)))
            report = protect(
                Archive(store, self._archive.info),
                names,
                parity=parity,
                group=group,
                workers=self._run.memory.workers(PROTECTOR_BYTES),
                progress=Progress(),
            )
        for failure in report.failures:
            what = f"{failure.file} got no parity: {failure.reason}"
            if failure.exit_code == ExitCode.DAMAGE:
                raise DamageError(what, hint=failure.hint, path=failure.file)
            raise ArchiverError(what, hint=failure.hint)
        for name in sorted(sidecars):
            with closing(self._store.open(name)) as reader:
                file = msgspec.structs.replace(_planned_file(planned, name), size=reader.size)
                self._files[name] = self._digests(file, reader)

    def _tidy(self) -> None:
        """Remove the folder of work in progress, which is empty now."""
        with suppress(OSError):
            (self._store.path / layout.TMP).rmdir()


def _planned_file(planned: Iterable[BundledFile], name: str) -> BundledFile:
    return next(file for file in planned if file.name == name)


class _SplitStore:
    """An archive's store to read from, whose sidecars are read and written on a volume.

    What is only needed meanwhile lies in ``scratch``: a volume may have no room for it.
    """

    def __init__(self, source: Store, target: LocalStore, scratch: LocalStore) -> None:
        self._source = source
        self._target = target
        self._scratch = scratch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def stage(self, purpose: str) -> Staged:
        """Begin a sidecar on the volume, or what it is made of."""
        return (self._target if purpose == "parity" else self._scratch).stage(purpose)

    def open(self, name: str) -> Reader:
        """Open a sidecar of the volume, or another file of the archive."""
        return (self._target if layout.parity_of(name) else self._source).open(name)


@contextmanager
def _staged(store: LocalStore) -> Iterator[Staged]:
    """Give a new file of a volume, which is thrown away unless it is published."""
    staged = store.stage(_PURPOSES[0])
    try:
        yield staged
    finally:
        staged.abort()


def _stretch(reader: Reader, offset: int, size: int) -> Iterator[memoryview]:
    """Yield a stretch of an open file, each piece valid until the next; DamageError if it ends early."""
    for at in range(offset, offset + size, _PIECE):
        buffer = workspace().take("bundle", min(_PIECE, offset + size - at)).data
        if reader.read_into(at, buffer) != len(buffer):
            raise DamageError("A file became shorter while it was read.")
        yield buffer


def _require_written(staged: Staged, digest: str) -> None:
    """Raise ArchiverError unless what was written can be read back from the medium."""
    with closing(staged.reader()) as written:
        written.fresh()
        if file_digest(written) != digest:
            raise ArchiverError(
                "What was written to the medium is not what came out when it was read back.",
                hint="Nothing of it was published. Take another medium.",
            )
