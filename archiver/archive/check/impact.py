"""Impact: which files, tensors and rows of which snapshots are hit where objects are lost.

Judged once all packs were looked at, because an object may be whole in another pack than the one where
it should be. Then nothing is lost, and the pack's finding says so.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from contextlib import suppress
from functools import cached_property
from itertools import islice, takewhile
from operator import attrgetter
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np
import numpy.typing as npt

from archiver.archive.advice import UseOtherFilesystem
from archiver.archive.findings import Code, Finding, TensorRows
from archiver.archive.fixity import read_or_reread
from archiver.archive.layout import pack_name
from archiver.archive.manifests import objects_of, objects_of_files
from archiver.archive.packs.index import ObjectIndex
from archiver.archive.publish import closure_names
from archiver.errors import ArchiverError
from archiver.names import unportable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from archiver.archive.advice import Advice
    from archiver.archive.archive import Archive
    from archiver.archive.check.files import DifferingFile
    from archiver.archive.check.pack_reading import DamagedObject, PackResult
    from archiver.archive.check.result import Findings
    from archiver.archive.records import FileEntry, Manifest
    from archiver.archive.seals import Snapshot
    from archiver.tensors.header import Tensor


# ---- objects

Digests = npt.NDArray[np.bytes_]
"""BLAKE3 digests of 32 bytes each, sorted."""


def absent_objects(needed: set[str], sound: Digests) -> set[str]:
    """Return those of the needed objects that are not among the sound ones."""
    if not needed:
        return set()
    names = sorted(needed)
    digests = np.frombuffer(bytes.fromhex("".join(names)), "S32")
    if not len(sound):
        return needed
    at = np.minimum(np.searchsorted(sound, digests), len(sound) - 1)
    return {names[i] for i in np.flatnonzero(sound[at] != digests)}


class StoredObjects:
    """Which objects came out of which packs, and which did not.

    It takes 32 bytes an object, so that an archive's fit in memory.

    Args:
        results: What came out of each pack.
        complete: Whether these are all packs of the archive.
    """

    def __init__(
        self, archive: Archive, results: Mapping[str, PackResult], *, complete: bool
    ) -> None:
        self._archive = archive
        self._results = results
        self._complete = complete
        self._single_reads: dict[str, bool] = {}
        """Object -> whether it came out of a pack beside the ``results``."""
        self.damaged: dict[str, DamagedObject] = {
            damaged.blake3: damaged for result in results.values() for damaged in result.damaged
        }
        self.denied = {
            result.pack for result in results.values() if result.denied or result.not_understood
        }
        """The packs that may not be read, or are not understood."""

    def _sound(self, packs: Iterable[str]) -> Digests:
        results = (self._results[pack] for pack in packs if pack in self._results)
        digests = [np.frombuffer(result.sound, "S32") for result in results if result.readable]
        return np.sort(np.concatenate(digests)) if digests else np.empty(0, "S32")

    @cached_property
    def _sound_anywhere(self) -> Digests:
        return self._sound(self._results)

    @cached_property
    def _pack_map(self) -> ObjectIndex:
        return ObjectIndex(self._archive, self._archive.packs())

    def missing_from(self, packs: Iterable[str], digests: set[str]) -> set[str]:
        """Return those of the objects that are whole in none of these packs."""
        return absent_objects(digests, self._sound(packs))

    def lost(self, digests: set[str]) -> set[str]:
        """Return those of the objects that are whole in no pack of the archive."""
        if not digests:
            return digests
        missing = absent_objects(digests, self._sound_anywhere)
        if self._complete:
            return missing
        # Packs that no chosen snapshot needs were not looked at. No index is opened before it has to be.
        return {digest for digest in missing if not self._comes_out(digest)}

    def _comes_out(self, digest: str) -> bool:
        """Return whether an object comes out of whatever pack lists it."""
        if digest not in self._single_reads:
            place = self._pack_map.find(digest)
            whole = place is not None
            if place is not None:
                size = place[1].size
                try:
                    self._pack_map.read(digest, size)
                except (ArchiverError, ValueError):
                    whole = False
            self._single_reads[digest] = whole
        return self._single_reads[digest]


# ---- snapshots

_PACK_CODES: Final = {"pack-missing", "pack-size", "pack-damaged", "index-damaged"}
_PATHS_NAMED: Final = 5


def check_snapshots(
    archive: Archive,
    snapshots: Iterable[Snapshot],
    objects: StoredObjects,
    differing: Sequence[DifferingFile],
    findings: Findings,
) -> None:
    """Find what of the snapshots cannot be made, and which damaged packs lose nothing.

    ``differing`` are the files that were made, and did not come out.
    """
    # Packs of which it is known what is needed; that lack objects; that lack some which are lost.
    judged, incomplete, losing = set[str](), set[str](), set[str]()
    for snapshot in snapshots:
        packs = {pack for pack, _ in snapshot.seal.packs}
        manifest = _manifest(archive, snapshot, findings)
        if manifest is None:
            losing |= packs  # what is needed of them is not known
            continue
        needed = objects_of(snapshot.seal, manifest)
        missing = objects.missing_from(packs, needed)
        lost = objects.lost(missing)
        if not objects.denied.isdisjoint(packs):
            # What a pack holds that may not be read is not known to be missing.
            lost &= objects.damaged.keys()
        for entry in manifest.files if lost else ():
            findings.all += file_findings(snapshot, entry, lost, objects, findings.advice)
        findings.all += _copy_findings(snapshot, lost, objects, findings)
        judged |= packs
        incomplete |= packs if missing else set()
        # What is lost of the manifest's copy alone is lost nowhere: its file has it.
        losing |= packs if lost and lost & objects_of_files(manifest) else set()
        for file in differing:
            known = any(digest in lost for _, digest in file.entry.segments)
            if file.snapshot.id == snapshot.id and not known:
                _add_differing(file, findings)
    _add_unneeded(objects, findings)
    losing |= {finding.pack for finding in findings.all if finding.code == "object-damaged"}
    harmless = judged - losing
    for at, finding in enumerate(findings.all):
        named = finding.packs or (finding.pack,)
        if finding.code in _PACK_CODES and harmless.issuperset(named):
            # A pack that looks damaged was read to its last object, at every level.
            where = "this-pack" if incomplete.isdisjoint(named) else "other-packs"
            findings.all[at] = msgspec.structs.replace(finding, whole_in=where)


def _manifest(archive: Archive, snapshot: Snapshot, findings: Findings) -> Manifest | None:
    """Return the manifest of a snapshot; None if it does not come out, which is a finding."""
    store, title, advice = archive.store, snapshot.title, findings.advice
    name = closure_names(snapshot.seal)[0]
    manifest, result = read_or_reread(store, name, lambda: archive.manifest_file(snapshot.seal))
    if result.unstable:
        findings.add(
            "read-unstable", result.unstable, advice.unstable(), path=name, snapshots=(title,)
        )
    if result.problem:
        code: Code = "manifest-damaged" if store.stat(name) is not None else "manifest-missing"
        actions = advice.copy_back(name, code, title)
        if result.invalid:
            code, actions = "manifest-invalid", advice.replace_snapshot(title)
        if result.denied:
            code, actions = "file-unreadable", advice.make_readable(title)
        text = result.problem
        if not result.invalid:
            with suppress(ArchiverError):
                manifest = archive.manifest(snapshot.seal)
                text += (
                    ""
                    if result.denied
                    else " The packs have what it says, whole: a repair writes it anew."
                )
        findings.add(code, text, actions, path=name, snapshots=(title,))
    if manifest is not None:
        # What only some filesystems cannot hold; all of a snapshot in one remark.
        paths = unportable(entry.path for entry in manifest.files)
        if paths:
            first = "; ".join(
                f"{path!r} {why}" for path, why in islice(paths.items(), _PATHS_NAMED)
            )
            rest = len(paths) - _PATHS_NAMED
            more = f"; and {rest:,} more" if rest > 0 else ""
            findings.add(
                "path-unportable",
                f"Not every filesystem can hold all files of this snapshot: {first}{more}.",
                (UseOtherFilesystem(),),
                path=name,
                snapshots=(title,),
                files=tuple(paths),
            )
    return manifest


def _copy_findings(
    snapshot: Snapshot, lost: set[str], objects: StoredObjects, findings: Findings
) -> Iterator[Finding]:
    """Say which objects of the manifest's copy in packs are lost, where no finding of a pack explains it.

    Its file has been judged by itself.
    """
    broken = {
        pack
        for finding in findings.all
        if finding.code in _PACK_CODES
        for pack in finding.packs or (finding.pack,)
    }
    explained = not broken.isdisjoint(pack for pack, _ in snapshot.seal.packs)
    name = closure_names(snapshot.seal)[0]
    for _, digest in snapshot.seal.manifest.copies:
        if digest not in lost:
            continue
        damaged = objects.damaged.get(digest)
        if damaged is None and explained:
            continue
        reason = damaged.reason if damaged else "no readable pack has it."
        yield Finding(
            "object-damaged" if damaged else "object-missing",
            f"The copy of {name} in packs cannot be made: {reason}",
            path=name,
            object=digest,
            pack=damaged.pack if damaged else "",
            snapshots=(snapshot.title,),
            actions=findings.advice.bring_back(snapshot.title),
        )


def _add_differing(file: DifferingFile, findings: Findings) -> None:
    title, path, advice = file.snapshot.title, file.entry.path, findings.advice
    if file.stable:
        text = f"Every object of {path} is whole, and the file is not: {file.reason}"
        findings.add("file-differs", text, advice.differs(title), path=path, snapshots=(title,))
    else:
        text = f"{path} came out right only when it was made again: {file.reason}"
        findings.add("read-unstable", text, advice.unstable(), path=path, snapshots=(title,))


def _add_unneeded(objects: StoredObjects, findings: Findings) -> None:
    """Find the damaged objects that no file was found to need, and that are whole nowhere."""
    unnamed = objects.damaged.keys() - {finding.object for finding in findings.all}
    lost = objects.lost(unnamed)
    for digest, damaged in objects.damaged.items():
        if digest in lost:
            text = f"{damaged.reason} No file is known to need this copy."
            actions = findings.advice.copy_back(pack_name(damaged.pack), "object-damaged")
            findings.add("object-damaged", text, actions, object=digest, pack=damaged.pack)


# ---- files

_RANGES_NAMED: Final = 8
"""Tensors and ranges of bytes that a message names; the finding lists every tensor."""

_Range = tuple[int, int]
"""Begin and end, in bytes, of a part of a file."""


def file_findings(
    snapshot: Snapshot, entry: FileEntry, lost: set[str], objects: StoredObjects, advice: Advice
) -> Iterator[Finding]:
    """Say what of a file is hit by lost objects.

    Damaged objects are one finding for each tensor that they hit; missing ones are one for each file.
    """
    missing: list[_Range] = []
    at = 0
    for size, digest in entry.segments:
        if digest in lost and digest in objects.damaged:
            yield from _damaged(snapshot, entry, (at, at + size), objects.damaged[digest], advice)
        elif digest in lost:
            begin = missing.pop()[0] if missing and missing[-1][1] == at else at
            missing.append((begin, at + size))
        at += size
    if missing:
        yield _missing(snapshot, entry, missing, advice)


def _damaged(
    snapshot: Snapshot, entry: FileEntry, hit: _Range, damaged: DamagedObject, advice: Advice
) -> Iterator[Finding]:
    begin, end = hit
    whole_file = hit == (0, entry.size)
    what = "All" if whole_file else f"Bytes {begin} to {end - 1}"
    rows: list[TensorRows | None] = [] if whole_file else [*affected_rows(entry, begin, end)]
    for row in rows or [None]:
        yield Finding(
            "object-damaged",
            f"{what} of {entry.path} cannot be made: {damaged.reason}",
            path=entry.path,
            object=damaged.blake3,
            pack=damaged.pack,
            snapshots=(snapshot.title,),
            tensors=(row,) if row else (),
            actions=advice.copy_back(pack_name(damaged.pack), "object-damaged", snapshot.title),
        )


def _missing(
    snapshot: Snapshot, entry: FileEntry, missing: list[_Range], advice: Advice
) -> Finding:
    whole_file = missing == [(0, entry.size)]
    rows = [] if whole_file else [row for hit in missing for row in affected_rows(entry, *hit)]
    what = "All"
    if not whole_file:
        what = "Bytes " + _first_few([f"{begin} to {end - 1}" for begin, end in missing])
    tensors = f" Hit: {_first_few([str(row) for row in rows])}." if len(rows) > 1 else ""
    return Finding(
        "object-missing",
        f"{what} of {entry.path} cannot be made: no readable pack has them.{tensors}",
        path=entry.path,
        snapshots=(snapshot.title,),
        tensors=tuple(rows),
        actions=advice.bring_back(snapshot.title),
    )


def _first_few(texts: list[str]) -> str:
    rest = len(texts) - _RANGES_NAMED
    return ", ".join(texts[:_RANGES_NAMED]) + (f" and {rest:,} more" if rest > 0 else "")


# ---- tensors


def affected_rows(entry: FileEntry, begin: int, end: int) -> list[TensorRows]:
    """Return the tensor rows that lie in the bytes ``begin`` to ``end`` (not included) of a file."""
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
