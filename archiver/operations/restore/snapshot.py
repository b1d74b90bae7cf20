"""Restoring the files of a snapshot."""

from __future__ import annotations

import os
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import msgspec

from archiver import memory
from archiver.archive.advice import command
from archiver.archive.destination import (
    Destination,
    NamesTaken,
    PlainFolder,
    holds,
    open_folder,
    remove_unfinished,
    writing,
)
from archiver.archive.events import Sighted
from archiver.archive.out_of_use import manifest_for, packs_for
from archiver.archive.outflow import Outflow
from archiver.archive.vouching import counted, vouches_of
from archiver.digest import git_blob_hasher
from archiver.errors import ArchiverError, DeniedError, ExitCode, NoSpaceError, UsageError
from archiver.names import check_paths
from archiver.operations.restore.failure import failure, hint_of
from archiver.operations.restore.report import RestoreReport
from archiver.storage.filesystem import free_bytes
from archiver.text import human_bytes
from archiver.upstream.hub_cache import CacheDestination, blob_oid

if TYPE_CHECKING:
    from pathlib import Path

    from archiver.archive.archive import Archive, Snapshot
    from archiver.archive.records import FileEntry
    from archiver.archive.vouching import Vouching
    from archiver.operations.restore.report import RestoreFailure
    from archiver.progress import Progress


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
    with Outflow(packs, workers=workers) as outflow:
        for entry in files:
            try:
                with names_taken.by(entry, target):
                    kept += _restore_file(entry, target, outflow, progress)
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
            hint=f"{command('show', archive.store.describe(), snapshot.title, '--files')} lists them.",
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
    for _, event in archive.events(on_damage=lambda _name, _error: None):
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
    entry: FileEntry, target: Destination, outflow: Outflow, progress: Progress
) -> bool:
    """Write one file; whether it was there already."""
    oid = blob_oid(entry)
    if oid is None:
        oid = _git_oid(entry, outflow)
    path = target.path(entry, oid)
    progress.begin(entry.path, entry.size)
    there = holds(path, entry)
    if there:
        progress.advance(entry.size, fetched=False)
    else:
        _write(entry, path, outflow, progress)
    target.finish(entry, path)
    progress.end(entry.path)
    return there


def _write(entry: FileEntry, path: Path, outflow: Outflow, progress: Progress) -> None:
    with writing(path) as writer:

        def sink(piece: memoryview) -> None:
            writer.write(piece)
            progress.advance(len(piece), fetched=True)

        outflow.copy(entry, sink)
        writer.accept()


def _git_oid(entry: FileEntry, outflow: Outflow) -> str:
    """The git blob id of a small file whose upstream had none."""
    hasher = git_blob_hasher(entry.size)
    for piece in outflow.pieces(iter(entry.segments)):
        hasher.update(piece)
    return hasher.hexdigest()
