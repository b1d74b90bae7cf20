"""The files of a snapshot that are restored, and why one could not be."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from archiver.archive.advice import command
from archiver.archive.check.impact import affected_rows
from archiver.archive.quarantine import manifest_for
from archiver.archive.vouching import Vouching, counted, vouches_of
from archiver.errors import (
    ArchiverError,
    DamageError,
    NotUnderstoodError,
    UnreadableError,
    UsageError,
)
from archiver.operations.restore.report import RestoreFailure

if TYPE_CHECKING:
    from archiver.archive.archive import Archive
    from archiver.archive.packs.index import ObjectIndex
    from archiver.archive.records import FileEntry
    from archiver.archive.seals import Snapshot


def selected_files(
    archive: Archive, snapshot: Snapshot, patterns: tuple[str, ...]
) -> tuple[list[FileEntry], Vouching, list[str]]:
    """Return the files that fit, who vouched for them, and the paths of all files."""
    manifest = manifest_for(archive, snapshot)
    vouches = vouches_of(snapshot.seal, manifest.source, manifest.files)
    pairs = [
        (entry, vouch)
        for entry, vouch in zip(manifest.files, vouches, strict=True)
        if not patterns or fits(entry.path, patterns)
    ]
    if not pairs and patterns:
        raise UsageError(
            f"No file of {snapshot.title} fits {', '.join(map(repr, patterns))}.",
            hint=f"{command('show', archive.store.address, snapshot.title, '--files')} lists them.",
        )
    paths = [entry.path for entry in manifest.files]
    return [entry for entry, _ in pairs], counted(vouch for _, vouch in pairs), paths


def fits(path: str, patterns: tuple[str, ...]) -> bool:
    """Return whether a path is one of these, or fits one of these patterns."""
    return any(path == pattern or fnmatchcase(path, pattern) for pattern in patterns)


_UNKNOWN: Final = (UnreadableError, NotUnderstoodError)
"""What says nothing of the bytes: they may be whole."""


def failure_of(
    entry: FileEntry, error: ArchiverError, hint: str, packs: ObjectIndex
) -> RestoreFailure:
    """Return what the report says of a file."""
    if isinstance(error, _UNKNOWN) or not isinstance(error, DamageError):
        return RestoreFailure(entry.path, error.message, hint, int(error.exit_code))
    hit = tuple(
        rows
        for begin, end in _lost(entry, error, packs)
        for rows in affected_rows(entry, begin, end)
    )
    return RestoreFailure(
        entry.path, error.message, hint, int(error.exit_code), hit, error.object, error.pack
    )


def _lost(entry: FileEntry, error: DamageError, packs: ObjectIndex) -> list[tuple[int, int]]:
    """Return where a file has lost bytes: in the object of the error, and in those that are nowhere."""
    ranges: list[tuple[int, int]] = []
    at = 0
    for size, digest in entry.segments:
        if digest == error.object or packs.find(digest) is None:
            begin = ranges.pop()[0] if ranges and ranges[-1][1] == at else at
            ranges.append((begin, at + size))
        at += size
    return ranges
