"""Export of a snapshot as an artifact in an OCI image layout, each blob proven before it gets its name.

The index names the artifact only once all of its blobs are there. What an earlier run left whole is kept.
"""

from __future__ import annotations

import os
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from archiver.archive.advice import audit_hint
from archiver.archive.decode import FileDecoder, FileTask, decoder_workers
from archiver.archive.destination import begin_file, holds, remove_unfinished
from archiver.archive.quarantine import manifest_for, packs_for
from archiver.archive.seals import Snapshot
from archiver.archive.vouching import Vouching, counted, vouches_of
from archiver.errors import (
    ArchiverError,
    DamageError,
    DeniedError,
    NoSpaceError,
    UsageError,
)
from archiver.export.model import model_facts
from archiver.export.modelpack import MANIFEST_MAX, artifact
from archiver.export.oci_layout import OciLayout, is_name
from archiver.memory import MemoryBudget, trim
from archiver.names import check_paths
from archiver.progress import StoppedError, stop_requested
from archiver.storage.filesystem import free_bytes
from archiver.text import human_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from archiver.archive.archive import Archive
    from archiver.archive.records import FileEntry
    from archiver.progress import Progress


class OciRequest(msgspec.Struct, frozen=True):
    """What to export, and where to.

    Attributes:
        snapshot: The snapshot that becomes an artifact.
        folder: The layout; it is made if it is not there.
        name: What the index calls the artifact; by default its revision.
        memory: What this may take, and so how many threads work.
    """

    snapshot: Snapshot
    folder: Path
    name: str = ""
    memory: MemoryBudget = MemoryBudget()


class BlobFailure(msgspec.Struct, frozen=True):
    """A file whose blob could not be written.

    Attributes:
        path: The file.
        reason: Why, for people.
        hint: What to do next, for people.
        exit_code: What the run ends with if no other file failed.
        object: The BLAKE3 of the object that could not be read, or ``""``.
        pack: The id of the pack that it was read from, or ``""``.
    """

    path: str
    reason: str
    hint: str
    exit_code: int
    object: str = ""
    pack: str = ""


class OciReport(msgspec.Struct, frozen=True):
    """What was exported; sizes in bytes.

    ``blobs`` are those of the files, each once; ``kept`` of them were there already. ``digest`` is the
    manifest's, by which registries know the artifact, and ``name`` what the index calls it: neither stands
    for anything while there are ``failures``. ``added`` is false if the index had it so before.
    ``oversized`` tells of a manifest that not every registry takes.
    """

    repository: str
    revision: str
    snapshot: str
    folder: str
    name: str
    digest: str
    files: int
    bytes: int
    blobs: int
    kept: int
    added: bool
    manifest_bytes: int
    oversized: bool
    vouched: Vouching
    failures: tuple[BlobFailure, ...] = ()


def export_oci(archive: Archive, request: OciRequest, progress: Progress) -> OciReport:
    """Write a snapshot's files as blobs of a layout, and then name the artifact in its index.

    A file that is damaged is listed in the report; the others are still written, and the index is not.

    Raises:
        DamageError: The manifest, or a file that the artifact's documents are made of, is damaged.
        HostileNameError: The manifest lists a file that may not be written to any folder.
        NoSpaceError: The disk is full, or has no room for the blobs.
        UsageError: The folder holds something else or lies in the archive, or the name is taken.
    """
    snapshot, seal = request.snapshot, request.snapshot.seal
    archive.require_outside(request.folder)
    name = request.name or seal.revision
    if not is_name(name):
        raise UsageError(
            f"{name!r} cannot be a tag.",
            hint="A tag has letters and digits, and single '.', '-' and '_' between them: v1.0.",
        )
    manifest = manifest_for(archive, snapshot)
    check_paths(entry.path for entry in manifest.files)
    vouched = counted(vouches_of(seal, manifest.source, manifest.files))
    packs = packs_for(archive, snapshot)
    paper = artifact(model_facts(manifest, packs), manifest.files)
    layout = OciLayout(request.folder)
    layout.open()
    if layout.named(name) not in {"", f"sha256:{paper.digest}"}:
        raise layout.taken(name)
    by_digest: dict[str, list[FileEntry]] = {}
    for entry in manifest.files:
        by_digest.setdefault(entry.sha256, []).append(entry)
    blobs = [entries[0] for entries in by_digest.values()]
    progress.expect(len(blobs), sum(entry.size for entry in blobs))
    _require_room(layout, blobs)
    remove_unfinished(layout.blobs)
    trim()  # of the manifest's text; the buffers come next
    with FileDecoder(packs, workers=decoder_workers(request.memory)) as decoder:
        run = _Run(layout, decoder, progress)
        run.write(blobs)
    failures = tuple(
        _failure(archive, snapshot, entry, error)
        for entry in manifest.files
        if (error := run.errors.get(entry.sha256)) is not None
    )
    added = False
    if not failures:
        layout.put(paper.config)
        layout.put(paper.manifest)
        added = layout.add(paper.descriptor(name))
    return OciReport(
        repository=seal.repository,
        revision=seal.revision,
        snapshot=snapshot.id,
        folder=str(request.folder),
        name=name,
        digest=f"sha256:{paper.digest}",
        files=len(manifest.files),
        bytes=sum(entry.size for entry in manifest.files),
        blobs=len(blobs),
        kept=run.kept,
        added=added,
        manifest_bytes=len(paper.manifest),
        oversized=len(paper.manifest) > MANIFEST_MAX,
        vouched=vouched,
        failures=failures,
    )


def _require_room(layout: OciLayout, blobs: Iterable[FileEntry]) -> None:
    """Raise NoSpaceError if the blobs that are not there yet cannot fit."""
    needed = sum(entry.size for entry in blobs if not os.path.lexists(layout.blob(entry.sha256)))
    free = free_bytes(layout.blobs)
    if free is not None and free < needed:
        raise NoSpaceError(
            f"{layout.root} needs {human_bytes(needed)}, {human_bytes(free)} are free.",
            hint="Free some room, or name a folder on another disk.",
        )


def _failure(
    archive: Archive, snapshot: Snapshot, entry: FileEntry, error: ArchiverError
) -> BlobFailure:
    damage = error if isinstance(error, DamageError) else None
    return BlobFailure(
        entry.path,
        error.message,
        audit_hint(error, archive.store.address, snapshot.title),
        int(error.exit_code),
        damage.object if damage else "",
        damage.pack if damage else "",
    )


class _Run:
    """Writes blobs, many at a time."""

    def __init__(self, layout: OciLayout, decoder: FileDecoder, progress: Progress) -> None:
        self._layout = layout
        self._decoder = decoder
        self._progress = progress
        self._stopped = False
        self.kept = 0
        self.errors: dict[str, ArchiverError] = {}
        """Why a blob could not be written, by its SHA-256."""

    def write(self, blobs: Iterable[FileEntry]) -> None:
        """Write the blobs that are not there; raise what none of them can do without."""
        with closing(self._decoder.files(self._tasks(blobs))) as done:
            try:
                for file in done:
                    self._note(file.task.entry, file.error, kept=file.kept)
            except BaseException:
                self._stopped = True  # before the decoder waits for its threads
                raise

    def _tasks(self, blobs: Iterable[FileEntry]) -> Iterator[FileTask]:
        for entry in blobs:
            yield FileTask(entry, partial(self._open, entry))

    def _note(self, entry: FileEntry, error: ArchiverError | None, *, kept: bool) -> None:
        if error is None:
            self.kept += kept
            self._progress.end(entry.path)
            return
        if isinstance(error, NoSpaceError):
            raise error
        if isinstance(error, DeniedError) and not os.access(self._layout.blobs, os.W_OK):
            raise error
        self.errors[entry.sha256] = error

    # Called by other threads

    def _open(self, entry: FileEntry) -> _Blob | None:
        """Return where to write a blob; None if it is there already."""
        self._progress.begin(entry.path, entry.size)
        if not self._is_there(entry):
            return _Blob(entry, self._layout.blob(entry.sha256), self)
        self._progress.advance(entry.size, fetched=False)
        return None

    def _is_there(self, entry: FileEntry) -> bool:
        try:
            return holds(self._layout.blob(entry.sha256), entry, self._require_running)
        except UsageError:
            raise self._layout.wrong_blob(entry.sha256) from None

    def _require_running(self, _count: int) -> None:
        if self._stopped or stop_requested.is_set():
            raise StoppedError

    def wrote(self, count: int) -> None:
        """Tell of bytes that were written."""
        self._progress.advance(count, fetched=True)

    def require_same(self, entry: FileEntry) -> None:
        """Raise UsageError unless a run beside this one made the same blob."""
        self._is_there(entry)


class _Blob:
    """A blob that is being written; see ``decode.Output``."""

    def __init__(self, entry: FileEntry, path: Path, run: _Run) -> None:
        self._entry = entry
        self._run = run
        self._writer = begin_file(path)

    def write_at(self, offset: int, data: memoryview) -> None:
        """Write a stretch of the blob."""
        self._writer.write_at(offset, data)
        self._run.wrote(len(data))

    def accept(self) -> None:
        """Give the blob its name; a run beside this one may have been quicker with the same bytes."""
        try:
            self._writer.accept()
        except UsageError:
            self._run.require_same(self._entry)

    def close(self) -> None:
        """Let go; a blob that was not accepted vanishes."""
        self._writer.close()
