"""Restore: write a snapshot, one file or one tensor to disk, compared with its manifest.

Needs neither network nor SQL.
"""

from __future__ import annotations

import os
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import msgspec

from archiver import memory
from archiver.archive.advice import command
from archiver.archive.check.impact import affected_rows
from archiver.archive.decode import FileDecoder
from archiver.archive.destination import (
    Destination,
    NamesTaken,
    PlainFolder,
    holds,
    holds_pieces,
    open_folder,
    remove_unfinished,
    writing,
)
from archiver.archive.events import Sighted
from archiver.archive.findings import TensorRows
from archiver.archive.quarantine import manifest_for, packs_for
from archiver.archive.vouching import Vouching, counted, vouches_of
from archiver.digest import git_blob_hasher
from archiver.errors import (
    ArchiverError,
    DamageError,
    DeniedError,
    ExitCode,
    NoSpaceError,
    UnreadableError,
    UsageError,
    skip_damaged,
)
from archiver.names import check_paths
from archiver.storage.filesystem import free_bytes
from archiver.tensors.header import header_bytes
from archiver.text import human_bytes
from archiver.upstream.hub_cache import CacheDestination, RefSkipped, blob_oid

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from archiver.archive.archive import Archive
    from archiver.archive.packs.index import ObjectIndex
    from archiver.archive.records import FileEntry
    from archiver.archive.seals import Snapshot
    from archiver.progress import Progress
    from archiver.tensors.header import Tensor


# ---- Restoring the files of a snapshot.


def restore(
    archive: Archive,
    snapshot: Snapshot,
    destination: Path,
    *,
    patterns: tuple[str, ...],
    hub_cache: bool,
    workers: int,
    progress: Progress,
) -> RestoreReport:
    """Write the files that fit ``patterns`` (all, if there are none) below ``destination``.

    A damaged file, and one whose name the filesystem cannot hold, is left out and listed in the report;
    the others are still restored.

    Raises:
        DamageError: The manifest cannot be read, or says what no manifest may.
        NoSpaceError: The disk is full, or has no room for the files.
        DeniedError: Nothing may be written at the destination.
        UsageError: No file fits, or the destination is not a folder.
    """
    files, vouched = _chosen(archive, snapshot, patterns)
    progress.expect(len(files), sum(entry.size for entry in files))
    _check_room(destination, sum(entry.size for entry in files))
    open_folder(destination)
    names = _names_of(archive, snapshot)
    cache = CacheDestination(destination, snapshot.seal.repository, snapshot.seal.revision, names)
    target: Destination = cache if hub_cache else PlainFolder(destination)
    packs = packs_for(archive, snapshot)
    memory.give_back()  # of the manifest's text; the buffers come next
    for folder in target.folders(files):
        remove_unfinished(folder)
    kept, failures = 0, []
    names_taken = NamesTaken(entry.path for entry in files)
    with FileDecoder(packs, workers=workers) as decoder:
        for entry in files:
            try:
                with names_taken.by(entry, target):
                    kept += _restore_file(entry, target, decoder, progress)
            except NoSpaceError:
                raise
            except ArchiverError as error:
                if isinstance(error, DeniedError) and not os.access(destination, os.W_OK):
                    raise
                hint = hint_of(error, archive, snapshot)
                failures.append(failure(entry, error, hint, packs))
    skipped = cache.publish() if hub_cache and not failures else []
    if hub_cache and not failures and not patterns and snapshot.seal.selection.whole:
        cache.record(files)
    report = _report(snapshot, destination, files, kept, failures)
    refs = set(names) - {one.name for one in skipped} if hub_cache and not failures else set()
    return msgspec.structs.replace(
        report, refs=tuple(sorted(refs)), refs_skipped=tuple(skipped), vouched=vouched
    )


def _report(
    snapshot: Snapshot,
    destination: Path,
    files: list[FileEntry],
    kept: int,
    failures: list[RestoreFailure],
) -> RestoreReport:
    failed = {one.path for one in failures}
    return RestoreReport(
        repository=snapshot.seal.repository,
        revision=snapshot.seal.revision,
        snapshot=snapshot.id,
        destination=str(destination),
        files=len(files) - len(failures),
        bytes=sum(entry.size for entry in files if entry.path not in failed),
        kept=kept,
        refused=sum(one.exit_code == ExitCode.USAGE for one in failures),
        failures=tuple(failures),
    )


def _chosen(
    archive: Archive, snapshot: Snapshot, patterns: tuple[str, ...]
) -> tuple[list[FileEntry], Vouching]:
    """The files that fit, and who vouched for them."""
    manifest = manifest_for(archive, snapshot)
    vouches = vouches_of(snapshot.seal, manifest.source, manifest.files)
    pairs = [
        (entry, vouch)
        for entry, vouch in zip(manifest.files, vouches, strict=True)
        if not patterns or any(entry.path == p or fnmatchcase(entry.path, p) for p in patterns)
    ]
    chosen = [entry for entry, _ in pairs]
    if not chosen and patterns:
        raise UsageError(
            f"No file of {snapshot.title} fits {', '.join(map(repr, patterns))}.",
            hint=f"{command('show', archive.store.address, snapshot.title, '--files')} lists them.",
        )
    return chosen, counted(vouch for _, vouch in pairs)


def _check_room(destination: Path, needed: int) -> None:
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


def _names_of(archive: Archive, snapshot: Snapshot) -> tuple[str, ...]:
    """The names (``main``, tags) that upstream last pointed at the revision; ``main`` if unknown.

    What a cache said of a name counts only where upstream was never seen to point it anywhere.
    """
    hearsay: dict[str, str] = {}
    seen: dict[str, str] = {}
    for _, event in archive.events(on_damage=skip_damaged):
        sighted = event.detail
        if isinstance(sighted, Sighted) and event.repository == snapshot.seal.repository:
            (hearsay if sighted.hearsay else seen)[sighted.name] = event.revision
    latest = hearsay | seen
    names = tuple(
        name
        for name, revision in latest.items()
        if revision == snapshot.seal.revision and _plain_name(name)
    )
    return names or (() if "main" in latest else ("main",))


def _plain_name(name: str) -> bool:
    try:
        check_paths([name])
    except ArchiverError:
        return False
    return True


def _restore_file(
    entry: FileEntry, target: Destination, decoder: FileDecoder, progress: Progress
) -> bool:
    """Write one file; whether it was there already."""
    oid = blob_oid(entry)
    if oid is None:
        oid = _git_oid(entry, decoder)
    path = target.path(entry, oid)
    progress.begin(entry.path, entry.size)
    there = holds(path, entry)
    if there:
        progress.advance(entry.size, fetched=False)
    else:
        _write(entry, path, decoder, progress)
    target.finish(entry, path)
    progress.end(entry.path)
    return there


def _write(entry: FileEntry, path: Path, decoder: FileDecoder, progress: Progress) -> None:
    with writing(path) as writer:

        def sink(piece: memoryview) -> None:
            writer.write(piece)
            progress.advance(len(piece), fetched=True)

        decoder.copy(entry, sink)
        writer.accept()


def _git_oid(entry: FileEntry, decoder: FileDecoder) -> str:
    """The git blob id of a small file whose upstream had none."""
    hasher = git_blob_hasher(entry.size)
    for piece in decoder.pieces(iter(entry.segments)):
        hasher.update(piece)
    return hasher.hexdigest()


# ---- Restoring one tensor, as a safetensors file of its own.


def restore_tensor(
    archive: Archive, snapshot: Snapshot, name: str, destination: Path, *, workers: int
) -> RestoredTensor:
    """Write one tensor as a safetensors file of its own, unless it is there already.

    ``destination`` is the file if it ends in ``.safetensors``, else the folder to put it in.

    Raises UsageError if there is no such tensor, DamageError if its bytes are damaged.
    """
    entry, tensor = _find_tensor(archive, snapshot, name)
    path = destination
    if destination.suffix != ".safetensors":
        safe = "".join(c if c.isalnum() or c in "._-" else "_" for c in name)[:200]
        path = destination / f"{safe}.safetensors"
    open_folder(path.parent)
    remove_unfinished(path.parent)
    header = header_bytes([(tensor.name, tensor.dtype, tensor.shape, tensor.end - tensor.begin)])
    segments = _segments_of(entry, tensor)
    with FileDecoder(packs_for(archive, snapshot), workers=workers) as decoder:
        try:
            kept = _write_tensor(path, header, segments, decoder)
        except DamageError as error:
            error.hint = hint_of(error, archive, snapshot)
            raise
    return RestoredTensor(name, str(path), kept)


def _write_tensor(
    path: Path, header: bytes, segments: list[tuple[int, str]], decoder: FileDecoder
) -> bool:
    """Whether the file was there already; UsageError if it is there with other content."""

    def pieces() -> Iterator[memoryview]:
        yield memoryview(header)
        yield from decoder.pieces(iter(segments))

    if holds_pieces(path, len(header) + sum(size for size, _ in segments), pieces()):
        return True
    with writing(path) as writer:
        for piece in pieces():
            writer.write(piece)
        writer.accept()
    return False


def _find_tensor(archive: Archive, snapshot: Snapshot, name: str) -> tuple[FileEntry, Tensor]:
    for entry in manifest_for(archive, snapshot).files:
        for tensor in () if isinstance(entry.tensors, msgspec.UnsetType) else entry.tensors:
            if tensor.name == name:
                return entry, tensor
    raise UsageError(
        f"{snapshot.title} has no tensor {name}.",
        hint=f"{command('show', archive.store.address, snapshot.title, '--tensors')} lists them.",
    )


def _segments_of(entry: FileEntry, tensor: Tensor) -> list[tuple[int, str]]:
    found, at = [], 0
    for size, digest in entry.segments:
        if tensor.begin <= at and at + size <= tensor.end:
            found.append((size, digest))
        at += size
    if sum(size for size, _ in found) != tensor.end - tensor.begin:
        raise DamageError(f"The manifest's segments do not cover tensor {tensor.name}.")
    return found


# ---- A file that could not be restored: which of its tensors are hit, and what to do next.


def failure(
    entry: FileEntry, error: ArchiverError, hint: str, packs: ObjectIndex
) -> RestoreFailure:
    """What the report says of a file."""
    if isinstance(error, UnreadableError) or not isinstance(error, DamageError):
        return RestoreFailure(entry.path, error.message, hint, int(error.exit_code))
    hit = tuple(
        rows
        for begin, end in _lost(entry, error, packs)
        for rows in affected_rows(entry, begin, end)
    )
    return RestoreFailure(
        entry.path, error.message, hint, int(error.exit_code), hit, error.object, error.pack
    )


def hint_of(error: ArchiverError, archive: Archive, snapshot: Snapshot) -> str:
    """The next command; where the archive is damaged, the one that says how far."""
    if isinstance(error, UnreadableError) or not isinstance(error, DamageError):
        return error.hint
    audit = command("audit", archive.store.address, "--snapshot", snapshot.title)
    return f"Run {audit} to see all that is damaged."


def _lost(entry: FileEntry, error: DamageError, packs: ObjectIndex) -> list[tuple[int, int]]:
    """Where a file has lost bytes: in the object that the error names, and in those that are nowhere."""
    found: list[tuple[int, int]] = []
    at = 0
    for size, digest in entry.segments:
        if digest == error.object or packs.find(digest) is None:
            joined = found.pop()[0] if found and found[-1][1] == at else at
            found.append((joined, at + size))
        at += size
    return found


# ---- What a restore tells.


class RestoreFailure(msgspec.Struct, frozen=True):
    """A file that could not be restored.

    Attributes:
        path: The file.
        reason: Why, for people.
        hint: What to do next, for people.
        exit_code: What it would end a run with that restores nothing else.
        tensors: The tensors that are damaged, and which of their rows, as far as that is known.
        object: The BLAKE3 of the object that could not be read, or ``""``.
        pack: The id of the pack that it was read from, or ``""``.
    """

    path: str
    reason: str
    hint: str
    exit_code: int
    tensors: tuple[TensorRows, ...] = ()
    object: str = ""
    pack: str = ""


class RestoreReport(msgspec.Struct, frozen=True):
    """What was restored; sizes in bytes.

    ``files`` are right now; ``kept`` of them were there already. ``refused`` of the failures are
    files that are there with other content. ``refs`` are the names (``main``, …)
    of a hub cache that point at the revision now, ``refs_skipped`` those that should and do not.
    ``vouched`` says whose digests stand behind the files that were asked for.
    """

    repository: str
    revision: str
    snapshot: str
    destination: str
    files: int
    bytes: int
    kept: int
    refused: int = 0
    failures: tuple[RestoreFailure, ...] = ()
    refs: tuple[str, ...] = ()
    refs_skipped: tuple[RefSkipped, ...] = ()
    vouched: Vouching = Vouching()


class RestoredTensor(msgspec.Struct, frozen=True):
    """Where a tensor is; ``kept`` if it was there already and right."""

    tensor: str
    file: str
    kept: bool
