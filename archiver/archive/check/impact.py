"""Closing an examination: whether every snapshot can be made from what its packs were seen to hold."""

from __future__ import annotations

import math
from bisect import bisect_right
from itertools import islice, takewhile
from operator import attrgetter
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from archiver.archive import layout
from archiver.archive.advice import UseOtherFilesystem
from archiver.archive.findings import Code, Finding, TensorRows
from archiver.archive.fixity import read_or_reread
from archiver.archive.layout import pack_name
from archiver.archive.packs.index import ObjectIndex
from archiver.buffers import workspace
from archiver.errors import ArchiverError
from archiver.names import unportable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from archiver.archive.advice import Actions, Advice
    from archiver.archive.archive import Archive
    from archiver.archive.check.files import Differing
    from archiver.archive.records import FileEntry, Manifest
    from archiver.archive.seals import Snapshot
    from archiver.tensors.header import Tensor


_PATHS_TOLD: Final = 5
_PACK: Final = {"pack-missing", "pack-size", "pack-damaged", "index-damaged"}


class Closing:
    """Judges snapshots by the objects that were seen; what is hit is added to ``findings``.

    Args:
        objects: What all packs that were looked at hold.
        denied: The packs that may not be read.
        whole: Whether every pack of the archive was looked at.
    """

    def __init__(
        self,
        archive: Archive,
        advice: Advice,
        findings: list[Finding],
        objects: ObjectTable,
        *,
        denied: set[str],
        whole: bool,
    ) -> None:
        self._archive = archive
        self._advice = advice
        self._findings = findings
        self._objects = objects
        self._denied = denied
        self._whole = whole
        self._elsewhere = Elsewhere(archive)
        self._anywhere: Digests | None = None
        self._healing: set[str] = set()
        self._losing: set[str] = set()
        self._judged: set[str] = set()

    def close(self, snapshot: Snapshot, differing: Iterable[Differing] = ()) -> str:
        """Find what of a snapshot cannot be made; the name of its manifest."""
        seal = snapshot.seal
        name = layout.manifest_name(seal.repository, seal.revision, seal.manifest.blake3)
        packs = {pack for pack, _ in seal.packs}
        manifest = self._manifest(snapshot, name)
        if manifest is None:
            self._losing |= packs
            return name
        astray = lost_objects(manifest, self._objects.within(packs))
        lost = self._nowhere(astray)
        if not self._denied.isdisjoint(packs):
            # What a pack holds that may not be read is not known to be missing.
            lost &= self._objects.bad.keys()
        self._findings += hits(snapshot, manifest, lost, self._objects.bad, self._advice)
        self._judged |= packs
        self._healing |= packs if astray else set()
        self._losing |= packs if lost else set()
        for one in differing:
            if not _touches(one.entry, lost):
                self._tell_differing(one)
        return name

    def _tell_differing(self, one: Differing) -> None:
        title, path = one.snapshot.title, one.entry.path
        if not one.stable:
            text = f"{path} came out right only when it was made again: {one.reason}"
            self._add("read-unstable", text, self._advice.unstable(), path, title)
            return
        text = f"Every object of {path} is whole, and the file is not: {one.reason}"
        self._add("file-differs", text, self._advice.differs(title), path, title)

    def _nowhere(self, digests: set[str]) -> set[str]:
        """Those of the objects that are whole in no pack of the archive."""
        if not digests:
            return digests
        if self._anywhere is None:
            self._anywhere = self._objects.anywhere()
        lost = missing_objects(digests, self._anywhere)
        return lost if self._whole else lost - self._elsewhere.whole(lost)

    def _manifest(self, snapshot: Snapshot, name: str) -> Manifest | None:
        store, title = self._archive.store, snapshot.title
        found, state = read_or_reread(store, name, lambda: self._archive.manifest(snapshot.seal))
        if state.unstable:
            self._add("read-unstable", state.unstable, self._advice.unstable(), name, title)
        if state.problem:
            code: Code = "manifest-damaged" if store.stat(name) is not None else "manifest-missing"
            actions = self._advice.copy_back(name, code, title)
            if state.invalid:
                code, actions = "manifest-invalid", self._advice.replace_snapshot(title)
            if state.denied:
                code, actions = "file-unreadable", self._advice.make_readable(title)
            self._add(code, state.problem, actions, name, title)
        if found is not None:
            self._remark_paths(found, name, title)
        return found

    def _remark_paths(self, manifest: Manifest, name: str, title: str) -> None:
        """What only some filesystems cannot hold; all of a snapshot in one remark."""
        paths = unportable(entry.path for entry in manifest.files)
        if paths:
            told = "; ".join(f"{path!r} {why}" for path, why in islice(paths.items(), _PATHS_TOLD))
            more = f"; and {len(paths) - _PATHS_TOLD:,} more" if len(paths) > _PATHS_TOLD else ""
            text = f"Not every filesystem can hold all files of this snapshot: {told}{more}."
            self._add("path-unportable", text, (UseOtherFilesystem(),), name, title, tuple(paths))

    def _add(
        self,
        code: Code,
        message: str,
        actions: Actions,
        path: str,
        snapshot: str,
        files: tuple[str, ...] = (),
    ) -> None:
        self._findings.append(
            Finding(code, message, path, snapshots=(snapshot,), files=files, actions=actions)
        )

    def finish(self) -> None:
        """Once all snapshots are closed: what no file needs, and what is lost with no pack."""
        self._unneeded()
        self._tell_healed()

    def _unneeded(self) -> None:
        """Damaged objects that no file was found to need."""
        unnamed = self._objects.bad.keys() - {one.object for one in self._findings}
        lost = self._nowhere(unnamed)
        for digest, bad in self._objects.bad.items():
            if digest in lost:
                text = f"{bad.reason} No file is known to need this copy."
                actions = self._advice.copy_back(layout.pack_name(bad.pack), "object-damaged")
                self._findings.append(
                    Finding("object-damaged", text, object=digest, pack=bad.pack, actions=actions)
                )

    def _tell_healed(self) -> None:
        """Say of lost and damaged packs whether anything is lost with them."""
        lost = {one.pack for one in self._findings if one.code == "object-damaged"}
        sound = self._judged - self._losing - lost
        for at, one in enumerate(self._findings):
            if one.code in _PACK and one.pack in sound:
                # A pack that looks damaged was read to its last object, at every level.
                where = "other-packs" if one.pack in self._healing else "this-pack"
                self._findings[at] = msgspec.structs.replace(one, whole_in=where)


def _touches(entry: FileEntry, lost: set[str]) -> bool:
    return any(digest in lost for _, digest in entry.segments)


# ---- What of a snapshot is hit where objects are lost: files, tensors, rows.


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


# ---- The objects that packs were seen to hold, and which of those that are needed are not among them.


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

    def anywhere(self) -> Digests:
        """The sound objects of all packs."""
        return self.within(self._sound)


def lost_objects(manifest: Manifest, sound: Digests) -> set[str]:
    """The objects that a manifest names and that are not among the sound ones."""
    return missing_objects(
        {digest for entry in manifest.files for _, digest in entry.segments}, sound
    )


def missing_objects(needed: set[str], sound: Digests) -> set[str]:
    """Those of the needed objects that are not among the sound ones."""
    if not needed:
        return set()
    names = sorted(needed)
    wanted = np.frombuffer(bytes.fromhex("".join(names)), "S32")
    if not len(sound):
        return needed
    at = np.minimum(np.searchsorted(sound, wanted), len(sound) - 1)
    return {names[i] for i in np.flatnonzero(sound[at] != wanted)}


# ---- Objects that are whole in some pack of the archive, though not in the one where they should be.


class Elsewhere:
    """Reads single objects from whatever pack has them; no pack is opened before the first one."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._packs: ObjectIndex | None = None
        self._known: dict[str, bool] = {}

    def whole(self, digests: Iterable[str]) -> set[str]:
        """Those of the objects that come out whole of some pack."""
        return {digest for digest in digests if self._comes_out(digest)}

    def _comes_out(self, digest: str) -> bool:
        if digest not in self._known:
            self._known[digest] = self._read(digest)
        return self._known[digest]

    def _read(self, digest: str) -> bool:
        if self._packs is None:
            self._packs = ObjectIndex(self._archive, self._archive.packs())
        found = self._packs.find(digest)
        if found is None:
            return False
        size = found[1].size
        try:
            self._packs.read(digest, size, workspace().take("check", size))
        except (ArchiverError, ValueError):
            return False
        return True


# ---- Which tensors, and which of their rows, lie in a stretch of a file.


def affected_by_object(entry: FileEntry, digest: str) -> list[TensorRows]:
    """The tensor rows of a file that an object holds."""
    found: list[TensorRows] = []
    for begin, end in stretches(entry, digest):
        found += affected_rows(entry, begin, end)
    return found


def stretches(entry: FileEntry, digest: str) -> Iterator[tuple[int, int]]:
    """Begin and end, in bytes, of each segment of the file that is the object ``digest``."""
    at = 0
    for size, segment in entry.segments:
        if segment == digest:
            yield at, at + size
        at += size


def affected_rows(entry: FileEntry, begin: int, end: int) -> list[TensorRows]:
    """The tensor rows that lie in the bytes ``begin`` to ``end`` (not included) of a file."""
    if isinstance(entry.tensors, msgspec.UnsetType):
        return []
    # In file order, so that a lookup in a file of 30,000 tensors stays cheap.
    first = bisect_right(entry.tensors, begin, key=attrgetter("end"))
    within = takewhile(lambda tensor: tensor.begin < end, entry.tensors[first:])
    return [
        _rows(tensor, max(begin, tensor.begin), min(end, tensor.end))
        for tensor in within
        if tensor.begin < tensor.end
    ]


def _rows(tensor: Tensor, begin: int, end: int) -> TensorRows:
    if not tensor.shape or not math.prod(tensor.shape):
        return TensorRows(tensor.name, None, None)
    # Whole numbers: what a manifest claims can be more than a float holds.
    rows, size = tensor.shape[0], tensor.end - tensor.begin
    first = (begin - tensor.begin) * rows // size
    last = -(-(end - tensor.begin) * rows // size) - 1
    return TensorRows(tensor.name, first, last)
