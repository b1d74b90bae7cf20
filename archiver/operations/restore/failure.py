"""A file that could not be restored: which of its tensors are hit, and what to do next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archiver.archive.advice import command
from archiver.archive.fixity.affected import affected_rows
from archiver.errors import ArchiverError, DamageError, UnreadableError
from archiver.operations.restore.report import RestoreFailure

if TYPE_CHECKING:
    from archiver.archive.archive import Archive, Snapshot
    from archiver.archive.packs.map import PackMap
    from archiver.archive.records import FileEntry


def failure(entry: FileEntry, error: ArchiverError, hint: str, packs: PackMap) -> RestoreFailure:
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
    audit = command("audit", archive.store.describe(), "--snapshot", snapshot.title)
    return f"Run {audit} to see all that is damaged."


def _lost(entry: FileEntry, error: DamageError, packs: PackMap) -> list[tuple[int, int]]:
    """Where a file has lost bytes: in the object that the error names, and in those that are nowhere."""
    found: list[tuple[int, int]] = []
    at = 0
    for size, digest in entry.segments:
        if digest == error.object or packs.find(digest) is None:
            joined = found.pop()[0] if found and found[-1][1] == at else at
            found.append((joined, at + size))
        at += size
    return found
