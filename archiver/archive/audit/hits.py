"""What of a snapshot is hit where objects are lost: files, tensors, rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from archiver.archive.finding import Finding, TensorRows
from archiver.archive.fixity.affected import affected_rows
from archiver.archive.layout import pack_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from archiver.archive.advice import Advice
    from archiver.archive.archive import Snapshot
    from archiver.archive.audit.objects import Bad
    from archiver.archive.records import FileEntry, Manifest

_TOLD: Final = 8
"""Tensors and stretches of bytes that a message names; the finding lists every tensor."""

_Stretch = tuple[int, int]
"""Begin and end, in bytes, of a part of a file."""


def hits(
    snapshot: Snapshot, manifest: Manifest, lost: set[str], bad: dict[str, Bad], advice: Advice
) -> Iterator[Finding]:
    """What of a snapshot is hit by lost objects.

    Damaged objects are one finding for each tensor they hit; missing ones are one for each file.
    """
    for entry in manifest.files:
        missing: list[_Stretch] = []
        at = 0
        for size, digest in entry.segments:
            if digest in bad and digest in lost:
                yield from _damaged(snapshot, entry, at, at + size, digest, bad[digest], advice)
            elif digest in lost:
                begin = missing.pop()[0] if missing and missing[-1][1] == at else at
                missing.append((begin, at + size))
            at += size
        if missing:
            yield _missing(snapshot, entry, missing, advice)


def _damaged(
    snapshot: Snapshot,
    entry: FileEntry,
    begin: int,
    end: int,
    digest: str,
    bad: Bad,
    advice: Advice,
) -> Iterator[Finding]:
    whole = (begin, end) == (0, entry.size)
    what = "All" if whole else f"Bytes {begin} to {end - 1}"
    rows: list[TensorRows | None] = [] if whole else [*affected_rows(entry, begin, end)]
    for one in rows or [None]:
        yield Finding(
            "object-damaged",
            f"{what} of {entry.path} cannot be made: {bad.reason}",
            path=entry.path,
            object=digest,
            pack=bad.pack,
            snapshots=(snapshot.title,),
            tensors=(one,) if one else (),
            actions=advice.copy_back(pack_name(bad.pack), "object-damaged", snapshot.title),
        )


def _missing(
    snapshot: Snapshot, entry: FileEntry, stretches: list[_Stretch], advice: Advice
) -> Finding:
    whole = stretches == [(0, entry.size)]
    rows = [] if whole else [one for part in stretches for one in affected_rows(entry, *part)]
    what = "All" if whole else "Bytes " + _some(f"{b} to {e - 1}" for b, e in stretches)
    hit = f" Hit: {_some(map(str, rows))}." if len(rows) > 1 else ""
    return Finding(
        "object-missing",
        f"{what} of {entry.path} cannot be made: no readable pack has them.{hit}",
        path=entry.path,
        snapshots=(snapshot.title,),
        tensors=tuple(rows),
        actions=advice.bring_back(snapshot.title),
    )


def _some(texts: Iterable[str]) -> str:
    found = list(texts)
    more = f" and {len(found) - _TOLD:,} more" if len(found) > _TOLD else ""
    return ", ".join(found[:_TOLD]) + more
