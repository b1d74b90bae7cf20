"""Whether a snapshot's files can be made from what its packs hold, and what is hit where not."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from archiver.archive.advice import bring_back, copy_back
from archiver.archive.affected import affected_rows
from archiver.archive.finding import Finding
from archiver.archive.layout import pack_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from archiver.archive.archive import Snapshot
    from archiver.archive.records import FileEntry, Manifest

Digests = npt.NDArray[np.bytes_]
"""BLAKE3 digests of 32 bytes each, sorted."""


class Bad(NamedTuple):
    """An object that is stored but does not come out."""

    pack: str
    reason: str


class ObjectTable:
    """Which packs hold which sound objects: 32 bytes an object, so that an archive's fit in memory."""

    def __init__(self) -> None:
        self._sound: dict[str, Digests] = {}
        self.bad: dict[str, Bad] = {}

    def add(self, pack: str, sound: bytes) -> None:
        """Note the sound objects of a pack: their digests, 32 bytes each."""
        self._sound[pack] = np.frombuffer(sound, "S32")

    def within(self, packs: Iterable[str]) -> Digests:
        """The sound objects of some packs."""
        found = [self._sound[pack] for pack in packs if pack in self._sound]
        return np.sort(np.concatenate(found)) if found else np.empty(0, "S32")


def lost_objects(manifest: Manifest, sound: Digests) -> set[str]:
    """The objects that a manifest names and that are not among the sound ones."""
    needed = {digest for entry in manifest.files for _, digest in entry.segments}
    if not needed:
        return set()
    names = sorted(needed)
    wanted = np.frombuffer(bytes.fromhex("".join(names)), "S32")
    if not len(sound):
        return needed
    at = np.minimum(np.searchsorted(sound, wanted), len(sound) - 1)
    return {names[i] for i in np.flatnonzero(sound[at] != wanted)}


class _Stretch(NamedTuple):
    """Bytes of a file that are lost, and the object or objects that held them."""

    begin: int
    end: int
    digest: str
    bad: Bad | None


def hits(
    snapshot: Snapshot, manifest: Manifest, lost: set[str], bad: dict[str, Bad]
) -> Iterator[Finding]:
    """What of a snapshot is hit by lost objects: each file, tensor and stretch of rows."""
    for entry in manifest.files:
        for stretch in _stretches(entry, lost, bad):
            yield from _hit(snapshot, entry, stretch)


def _stretches(entry: FileEntry, lost: set[str], bad: dict[str, Bad]) -> Iterator[_Stretch]:
    """The lost stretches in file order; neighbours whose objects are missing become one."""
    waiting: _Stretch | None = None
    at = 0
    for size, digest in entry.segments:
        if digest in lost:
            one = _Stretch(at, at + size, digest, bad.get(digest))
            if waiting and waiting.end == at and waiting.bad is None and one.bad is None:
                one = _Stretch(waiting.begin, one.end, "", None)
            elif waiting:
                yield waiting
            waiting = one
        at += size
    if waiting:
        yield waiting


def _hit(snapshot: Snapshot, entry: FileEntry, stretch: _Stretch) -> Iterator[Finding]:
    rows = affected_rows(entry, stretch.begin, stretch.end)
    whole = (stretch.begin, stretch.end) == (0, entry.size)
    message = _message(entry, stretch, whole=whole)
    hint = _hint(snapshot.title, stretch.bad)
    for one in [None] if whole or not rows else rows:
        yield Finding(
            "object-damaged" if stretch.bad else "object-missing",
            message,
            path=entry.path,
            tensor=one.name if one else "",
            rows=None
            if one is None or one.first is None or one.last is None
            else (one.first, one.last),
            object=stretch.digest,
            hint=hint,
            snapshot=snapshot.title,
            pack=stretch.bad.pack if stretch.bad else "",
        )


def _hint(title: str, bad: Bad | None) -> str:
    return copy_back(pack_name(bad.pack), title) if bad else bring_back(title)


def _message(entry: FileEntry, stretch: _Stretch, *, whole: bool) -> str:
    what = "All" if whole else f"Bytes {stretch.begin} to {stretch.end - 1}"
    if stretch.bad:
        return f"{what} of {entry.path} cannot be made: {stretch.bad.reason}"
    return f"{what} of {entry.path} cannot be made: no readable pack of the snapshot has them."
