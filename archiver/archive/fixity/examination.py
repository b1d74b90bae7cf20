"""Examining an archive: whether it holds what its seals say, and everything that it does not.

Reading goes seals, packs, manifests. Every pack is read once, front to back; several are read at a
time. Memory is a few buffers a thread and 32 bytes an object. Nothing is written.
"""

from __future__ import annotations

from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Final, get_args

import msgspec

from archiver.archive import layout
from archiver.archive.advice import Advice
from archiver.archive.archive import Archive, Snapshot
from archiver.archive.finding import Code, Finding
from archiver.archive.fixity.closure import Bad, ObjectTable, absent, hits, lost_objects
from archiver.archive.fixity.document_check import DocumentCheck
from archiver.archive.fixity.elsewhere import Elsewhere
from archiver.archive.fixity.pack_audit import Examined, Wanted, examine_all, pack_findings
from archiver.archive.fixity.read_twice import read_twice
from archiver.names import RepoId, slug

if TYPE_CHECKING:
    from archiver.archive.fixity.closure import Digests
    from archiver.archive.records import Manifest
    from archiver.progress import Progress

_ORDER: Final = {code: number for number, code in enumerate(get_args(Code))}


class Examination(msgspec.Struct, frozen=True):
    """What was read and found.

    Attributes:
        snapshots: How many are known to belong here, whether their seals are whole or not.
        packs: How many could be read.
        objects: How many lie in them.
        bytes: How many were read from packs.
        findings: Everything that is not as it should be, remarks last.
        sealed: The snapshots whose seals are whole.
        examined: What came out of reading each pack.
    """

    snapshots: int
    packs: int
    objects: int
    bytes: int
    findings: tuple[Finding, ...]
    sealed: tuple[Snapshot, ...] = ()
    examined: tuple[Examined, ...] = ()


def examine(
    archive: Archive,
    *,
    repository: str | None = None,
    revision: str | None = None,
    workers: int,
    progress: Progress,
) -> Examination:
    """Check the whole archive, or the snapshots of one repository and (beginning of a) revision.

    Raises UsageError if there is no such snapshot.
    """
    return _Run(archive, repository, revision, progress).run(workers)


class _Run:
    """One run."""

    def __init__(
        self, archive: Archive, repository: str | None, revision: str | None, progress: Progress
    ) -> None:
        self._archive = archive
        self._repository = repository
        self._revision = revision or ""
        self._progress = progress
        self._documents = DocumentCheck(archive)
        self._findings = self._documents.findings
        self._advice = Advice(archive.store.describe())
        self._elsewhere = Elsewhere(archive)
        self._anywhere: Digests | None = None
        self._closed: set[str] = set()
        self._healing: set[str] = set()
        self._losing: set[str] = set()
        self._objects = ObjectTable()
        self._read = 0
        self._count = self._bytes = 0
        self._writers: dict[str, str] = {}
        self._examined: list[Examined] = []

    def run(self, workers: int) -> Examination:
        """Read everything."""
        snapshots = self._snapshots()
        self._documents.info(snapshots)
        packs = self._wanted(snapshots)
        # Closed at once if anything interrupts: its threads must not read on behind an error.
        total = sum(self._archive.store.stat(layout.pack_name(one.pack)) or 0 for one in packs)
        self._progress.expect(len(packs), total)
        read = partial(self._progress.advance, fetched=True)
        with closing(examine_all(self._archive.store, packs, workers, read)) as examining:
            for examined in examining:
                self._note(examined)
        manifests = {self._close(snapshot) for snapshot in snapshots}
        self._unneeded()
        self._tell_healed()
        self._documents.foreign(snapshots, self._writers)
        if self._repository is None:
            self._documents.events(snapshots)
            self._documents.explanations()
            self._documents.leftovers(manifests)
        findings = sorted(set(self._findings), key=_rank)
        gone = {one.path for one in findings if one.code == "seal-missing"}
        return Examination(
            snapshots=self._documents.named + len(gone),
            packs=self._read,
            objects=self._count,
            bytes=self._bytes,
            findings=tuple(findings),
            sealed=tuple(snapshots),
            examined=tuple(self._examined),
        )

    # ---- what there is to read

    def _snapshots(self) -> list[Snapshot]:
        if self._repository is None:
            return list(self._documents.seals(layout.SNAPSHOTS))
        below = f"{layout.SNAPSHOTS}/{slug(RepoId(self._repository))}"
        wanted = self._repository.casefold()
        found = self._documents.seals(below, self._revision)
        chosen = [one for one in found if one.seal.repository.casefold() == wanted]
        if not chosen and not self._findings:
            self._archive.find(self._repository, self._revision)  # says what is held instead
        return chosen

    def _wanted(self, snapshots: list[Snapshot]) -> list[Wanted]:
        """Every pack of the seals and, in a whole audit, every other that is there."""
        sizes: dict[str, set[int]] = {}
        titles: dict[str, dict[str, None]] = {}
        for snapshot in snapshots:
            for pack, size in snapshot.seal.packs:
                sizes.setdefault(pack, set()).add(size)
                titles.setdefault(pack, {})[snapshot.title] = None
        found = [
            Wanted(pack, frozenset(sizes[pack]), tuple(titles[pack])) for pack in sorted(sizes)
        ]
        if self._repository is None:
            others = (pack for pack in self._archive.packs() if pack not in sizes)
            found += [Wanted(pack, frozenset(), ()) for pack in others]
        return found

    # ---- packs

    def _note(self, examined: Examined) -> None:
        wanted, state = examined.wanted, examined.state
        self._examined.append(examined)
        self._findings += pack_findings(examined, self._advice)
        if examined.denied:
            self._closed.add(wanted.pack)
        if not wanted.snapshots:
            text = f"No seal needs pack {wanted.pack}: a run was interrupted, or its seal is lost."
            self._findings.append(Finding("unsealed-pack", text, pack=wanted.pack))
        if state is not None:
            self._read += 1
            self._writers[wanted.pack] = state.archive
            self._objects.add(wanted.pack, state.sound)
            self._objects.bad |= {one.blake3: Bad(wanted.pack, one.reason) for one in state.faults}
            self._count += len(state.sound) // 32 + len(state.faults)
            self._bytes += state.size
        self._progress.end(layout.pack_name(wanted.pack))

    # ---- closure

    def _close(self, snapshot: Snapshot) -> str:
        """Find what of a snapshot cannot be made; the name of its manifest."""
        seal = snapshot.seal
        name = layout.manifest_name(seal.repository, seal.revision, seal.manifest.blake3)
        manifest = self._manifest(snapshot, name)
        if manifest is not None:
            packs = [pack for pack, _ in seal.packs]
            astray = lost_objects(manifest, self._objects.within(packs))
            lost = self._nowhere(astray)
            if not self._closed.isdisjoint(packs):
                # What a pack holds that may not be read is not known to be missing.
                lost &= self._objects.bad.keys()
            self._findings += hits(snapshot, manifest, lost, self._objects.bad, self._advice)
            if astray:
                self._healing.update(packs)
            if lost:
                self._losing.update(packs)
        else:
            self._losing.update(pack for pack, _ in seal.packs)
        return name

    def _nowhere(self, digests: set[str]) -> set[str]:
        """Those of the objects that are whole in no pack of the archive."""
        if not digests:
            return digests
        if self._anywhere is None:
            self._anywhere = self._objects.anywhere()
        lost = absent(digests, self._anywhere)
        # A whole audit has read every pack; else the others are asked now.
        return lost if self._repository is None else lost - self._elsewhere.whole(lost)

    def _tell_healed(self) -> None:
        """Say of lost and damaged packs whether anything is lost with them."""
        codes = {"pack-missing", "pack-size", "pack-damaged"}
        lost = {one.pack for one in self._findings if one.code == "object-damaged"}
        healed = self._healing - self._losing - lost
        for at, one in enumerate(self._findings):
            if one.code in codes and one.pack in healed:
                text = f"{one.message} Nothing is lost: every object of it is whole in other packs."
                self._findings[at] = msgspec.structs.replace(one, message=text)

    def _manifest(self, snapshot: Snapshot, name: str) -> Manifest | None:
        store, title = self._archive.store, snapshot.title
        found, state = read_twice(store, name, lambda: self._archive.manifest(snapshot.seal))
        if state.unstable:
            self._add("read-unstable", state.unstable, self._advice.unstable(), name, title)
        if state.problem:
            code: Code = "manifest-damaged" if store.stat(name) is not None else "manifest-missing"
            hint = self._advice.copy_back(name, code, title)
            if state.denied:
                code, hint = "file-unreadable", self._advice.make_readable(title)
            self._add(code, state.problem, hint, name, title)
        return found

    def _add(self, code: Code, message: str, hint: str, path: str, snapshot: str) -> None:
        self._findings.append(Finding(code, message, path=path, hint=hint, snapshot=snapshot))

    def _unneeded(self) -> None:
        """Damaged objects that no file was found to need."""
        unnamed = self._objects.bad.keys() - {one.object for one in self._findings}
        lost = self._nowhere(unnamed)
        for digest, bad in self._objects.bad.items():
            if digest in lost:
                text = f"{bad.reason} No file is known to need this copy."
                hint = self._advice.copy_back(layout.pack_name(bad.pack), "object-damaged")
                self._findings.append(
                    Finding("object-damaged", text, object=digest, hint=hint, pack=bad.pack)
                )


def _rank(one: Finding) -> tuple[bool, int, str, str, str, str]:
    return one.remark, _ORDER[one.code], one.snapshot, one.path, one.pack, one.object
