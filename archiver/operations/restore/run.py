"""One run of a restore: a snapshot, or single files of it, to disk, compared with its manifest.

Needs neither network nor SQL. What is damaged is left out and named, with the tensors that are hit.
"""

from __future__ import annotations

import os
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from archiver.archive.advice import audit_hint
from archiver.archive.decode import FileDecoder, FileTask, Proof, decoder_workers
from archiver.archive.destination import (
    Destination,
    ExistingFileError,
    NamesTaken,
    PlainFolder,
    Writer,
    begin_file,
    holds,
    open_folder,
    remove_unfinished,
    require_replaceable,
)
from archiver.archive.quarantine import packs_for
from archiver.archive.refs import Refs
from archiver.archive.seals import Snapshot
from archiver.digest import git_blob_hasher
from archiver.errors import (
    ArchiverError,
    DamageError,
    DeniedError,
    ExitCode,
    NoSpaceError,
    UnportableNameError,
    skip_damaged,
)
from archiver.memory import MemoryBudget, trim
from archiver.names import check_paths, portable_paths
from archiver.operations.restore.files import failure_of, selected_files
from archiver.operations.restore.report import RenamedFile, RestoreReport
from archiver.progress import StoppedError, stop_requested
from archiver.storage.filesystem import free_bytes
from archiver.text import human_bytes
from archiver.upstream.hub_cache import CacheDestination, RefSkipped, blob_oid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from archiver.archive.archive import Archive
    from archiver.archive.records import FileEntry
    from archiver.progress import Progress


class RestoreRequest(msgspec.Struct, frozen=True):
    """What to restore, and where to.

    Attributes:
        snapshot: The snapshot whose files are restored.
        destination: The folder, or the root of a hub client's cache; it is made if it is not there.
        patterns: Paths, or patterns that they fit; none: all files.
        hub_cache: Whether the files are laid out as a hub client's cache has them.
        rename: Whether a file whose name the filesystem cannot hold gets another one, in a plain folder.
        overwrite: Whether files and links that are there and wrong are replaced; else they are refused.
        stop_on_damage: Whether the first file that is damaged ends the run; else it is left out.
        proof: What must be right about a file before it gets its name.
        memory: What this may take, and so how many threads work.
    """

    snapshot: Snapshot
    destination: Path
    patterns: tuple[str, ...] = ()
    hub_cache: bool = False
    rename: bool = False
    overwrite: bool = False
    stop_on_damage: bool = False
    proof: Proof = Proof.FILES
    memory: MemoryBudget = MemoryBudget()


def restore(archive: Archive, request: RestoreRequest, progress: Progress) -> RestoreReport:
    """Write the files that are asked for below the destination.

    What is there already is kept if it is right; if not, it is refused, or replaced with ``overwrite``.
    A damaged file, and one whose name the filesystem cannot hold, is left out and listed in the report;
    the others are still restored. With ``rename`` the latter gets the name that ``portable_paths`` gives.

    Raises:
        DamageError: The manifest cannot be read, or says what no manifest may.
        NoSpaceError: The disk is full, or has no room for the files.
        DeniedError: Nothing may be written at the destination.
        UsageError: No file fits, or the destination is not a folder, or lies in the archive.
    """
    snapshot, destination, seal = request.snapshot, request.destination, request.snapshot.seal
    archive.require_outside(destination)
    files, vouching, paths = selected_files(archive, snapshot, request.patterns)
    size = sum(entry.size for entry in files)
    progress.expect(len(files), size)
    _require_room(destination, size)
    open_folder(destination)
    # Only a cache has names: a journal may be long.
    names = _ref_names(archive, snapshot) if request.hub_cache else ()
    cache = CacheDestination(
        destination, seal.repository, seal.revision, names, overwrite=request.overwrite
    )
    plain = PlainFolder(destination)
    target: Destination = cache if request.hub_cache else plain
    packs = packs_for(archive, snapshot)
    trim()  # of the manifest's text; the buffers come next
    for folder in target.folders(files):
        remove_unfinished(folder)
    with FileDecoder(packs, workers=decoder_workers(request.memory)) as decoder:
        run = _Run(request, target, decoder, progress)
        run.restore(files)
        if request.rename and not run.ended:
            run.rename(files, plain, portable_paths(paths))
    kept = run.kept
    failures = [
        failure_of(entry, error, audit_hint(error, archive.store.address, snapshot.title), packs)
        for entry in files
        if (error := run.errors.get(entry.path)) is not None
    ]
    refs: tuple[str, ...] = ()
    skipped: list[RefSkipped] = []
    if request.hub_cache and not failures:
        # A name leads to the revision only once all of its files are there.
        skipped = cache.publish()
        refs = tuple(sorted(set(names) - {ref.name for ref in skipped}))
        if not request.patterns and seal.selection.whole:
            cache.record(files)
    return RestoreReport(
        repository=seal.repository,
        revision=seal.revision,
        snapshot=snapshot.id,
        destination=str(destination),
        files=len(run.right),
        bytes=sum(entry.size for entry in files if entry.path in run.right),
        kept=kept,
        refused=sum(failure.exit_code == ExitCode.USAGE for failure in failures),
        failures=tuple(failures),
        refs=refs,
        refs_skipped=tuple(skipped),
        renamed=tuple(run.renamed),
        vouched=vouching,
        proof=request.proof,
        replaced=tuple(sorted(run.replaced & run.right)),
        untried=len(files) - len(run.right) - len(failures),
    )


def _require_room(destination: Path, needed: int) -> None:
    folder = destination
    while not folder.exists():
        folder = folder.parent
    free = free_bytes(folder)
    # Files that are there already need no room: only what cannot fit at all is refused here.
    if free is not None and free < needed and not destination.exists():
        raise NoSpaceError(
            f"{destination} needs {human_bytes(needed)}, {human_bytes(free)} are free.",
            hint="Free some room, or restore single files with --file.",
        )


def _ref_names(archive: Archive, snapshot: Snapshot) -> tuple[str, ...]:
    """Return the names that a cache gets for the revision, those that a file can have."""
    seal = snapshot.seal
    refs = Refs(archive, archive.events(on_damage=skip_damaged))
    return tuple(filter(_is_plain, refs.mirrored_at(seal.repository, seal.revision)))


def _is_plain(name: str) -> bool:
    """Return whether a name can be that of a file in a cache."""
    try:
        check_paths([name])
    except ArchiverError:
        return False
    return True


class _Run:
    """One run of a restore: what became of which file."""

    def __init__(
        self, request: RestoreRequest, target: Destination, decoder: FileDecoder, progress: Progress
    ) -> None:
        self._request = request
        self._target = target
        self._decoder = decoder
        self._progress = progress
        self._stopped = False
        self.ended = False
        """Whether a file that is damaged has ended the run."""
        self.kept = 0
        self.right: set[str] = set()
        """The paths of the files that are right now."""
        self.errors: dict[str, ArchiverError] = {}
        """Why a file could not be restored, by its path."""
        self.renamed: list[RenamedFile] = []
        self.replaced: set[str] = set()
        """The paths of the files that take the place of other content."""

    def rename(
        self, files: Sequence[FileEntry], plain: PlainFolder, others: Mapping[str, str]
    ) -> None:
        """Restore those that the filesystem cannot hold under the names that ``others`` give."""
        unheld = [
            entry
            for entry in files
            if isinstance(self.errors.get(entry.path), UnportableNameError) and entry.path in others
        ]
        for entry in unheld:
            del self.errors[entry.path]
            plain.rename(entry.path, others[entry.path])
        self.restore(unheld)
        self.renamed = [
            RenamedFile(entry.path, others[entry.path])
            for entry in unheld
            if entry.path not in self.errors
        ]

    def restore(self, files: Sequence[FileEntry]) -> None:
        """Restore files, many at a time; raise what none of them can do without."""
        names = NamesTaken(entry.path for entry in files)
        alone: list[FileEntry] = []
        with closing(self._decoder.files(self._tasks(files, names, alone), self._proof)) as done:
            try:
                for file in done:
                    self._note(file.task.entry, file.error, kept=file.kept)
                    if file.error is None:
                        names.take(file.task.entry, self._target)
                    if self.ended:
                        self._stopped = True
                        break
            except BaseException:
                self._stopped = True  # before the decoder waits for its threads
                raise
        for entry in alone:
            if not self.ended:
                self._restore_alone(entry, names)

    @property
    def _proof(self) -> Proof:
        return self._request.proof

    def _tasks(
        self, files: Sequence[FileEntry], names: NamesTaken, alone: list[FileEntry]
    ) -> Iterator[FileTask]:
        """Yield what can be done side by side; what depends on another file is left to ``alone``.

        That is a file whose name some filesystems take for another's, one of the same bytes, and so of the
        same name, in a cache, and one whose name there is found out by reading it.
        """
        paths: set[Path] = set()
        for entry in files:
            if names.may_clash(entry) or (self._request.hub_cache and blob_oid(entry) is None):
                alone.append(entry)
                continue
            try:
                path = self._target.path(entry, blob_oid(entry) or "")
            except ArchiverError as error:
                self._note(entry, error)
                continue
            if path in paths:
                alone.append(entry)
                continue
            paths.add(path)
            yield FileTask(entry, partial(self._open, entry, path))

    def _restore_alone(self, entry: FileEntry, names: NamesTaken) -> None:
        error, kept = None, False
        try:
            with names.by(entry, self._target):
                kept = self._restore_file(entry)
        except ArchiverError as raised:
            error = raised
        self._note(entry, error, kept=kept)

    def _restore_file(self, entry: FileEntry) -> bool:
        """Restore one file; return whether it was there already."""
        oid = blob_oid(entry)
        if oid is None and self._request.hub_cache:
            oid = self._git_oid(entry)
        path = self._target.path(entry, oid or "")
        task = FileTask(entry, partial(self._open, entry, path))
        with closing(self._decoder.files([task], self._proof)) as done:
            (file,) = done
        if file.error is not None:
            raise file.error
        return file.kept

    def _git_oid(self, entry: FileEntry) -> str:
        """Return the git blob id of a small file whose upstream had none."""
        hasher = git_blob_hasher(entry.size)
        for piece in self._decoder.pieces(iter(entry.segments)):
            hasher.update(piece)
        return hasher.hexdigest()

    def _note(self, entry: FileEntry, error: ArchiverError | None, *, kept: bool = False) -> None:
        """Note what became of a file; raise the error if it is no fault of this file."""
        if error is None:
            self.kept += kept
            self.right.add(entry.path)
            self._progress.end(entry.path)
            return
        if isinstance(error, NoSpaceError):
            raise error
        if isinstance(error, DeniedError) and not os.access(self._request.destination, os.W_OK):
            raise error
        self.errors[entry.path] = error
        self.ended = self._request.stop_on_damage and isinstance(error, DamageError)

    # Called by other threads

    def _open(self, entry: FileEntry, path: Path) -> _RestoredFile | None:
        """Return where to write a file; None if it is there already."""
        self._progress.begin(entry.path, entry.size)
        replace = False
        try:
            there = holds(path, entry, self._require_running)
        except ExistingFileError:
            if not self._request.overwrite:
                raise
            require_replaceable(path, self._request.destination)
            there, replace = False, True
            self.replaced.add(entry.path)
        if not there:
            writer = begin_file(path, replace=replace)
            return _RestoredFile(entry, writer, self._target, self._progress, self._require_running)
        self._progress.advance(entry.size, fetched=False)
        self._target.finish(entry, path)
        return None

    def _require_running(self, _count: int) -> None:
        if self._stopped or stop_requested.is_set():
            raise StoppedError


class _RestoredFile:
    """A file that is being written; see ``decode.Output``."""

    def __init__(
        self,
        entry: FileEntry,
        writer: Writer,
        target: Destination,
        progress: Progress,
        go_on: Callable[[int], None],
    ) -> None:
        """``go_on`` raises once the run has ended."""
        self._entry = entry
        self._target = target
        self._progress = progress
        self._go_on = go_on
        self._writer = writer

    def write_at(self, offset: int, data: memoryview) -> None:
        """Write a stretch of the file."""
        self._writer.write_at(offset, data)
        self._progress.advance(len(data), fetched=True)

    def accept(self) -> None:
        """Give the file its name; a run beside this one may have been quicker with the same bytes."""
        try:
            self._writer.accept()
        except ExistingFileError:
            if not holds(self._writer.path, self._entry, self._go_on):
                raise
        self._target.finish(self._entry, self._writer.path)

    def close(self) -> None:
        """Let go; a file that was not accepted vanishes."""
        self._writer.close()
