"""Closing an examination: whether every snapshot can be made from what its packs were seen to hold."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

import msgspec

from archiver.archive import layout
from archiver.archive.advice import UseOtherFilesystem
from archiver.archive.audit.elsewhere import Elsewhere
from archiver.archive.audit.hits import hits
from archiver.archive.audit.objects import absent, lost_objects
from archiver.archive.finding import Code, Finding
from archiver.archive.fixity.read_twice import read_twice
from archiver.names import unportable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from archiver.archive.advice import Actions, Advice
    from archiver.archive.archive import Archive, Snapshot
    from archiver.archive.audit.files import Differing
    from archiver.archive.audit.objects import Digests, ObjectTable
    from archiver.archive.records import FileEntry, Manifest

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
        lost = absent(digests, self._anywhere)
        return lost if self._whole else lost - self._elsewhere.whole(lost)

    def _manifest(self, snapshot: Snapshot, name: str) -> Manifest | None:
        store, title = self._archive.store, snapshot.title
        found, state = read_twice(store, name, lambda: self._archive.manifest(snapshot.seal))
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
