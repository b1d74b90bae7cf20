"""Copy: make another folder a replica of an archive, or add this archive's snapshots to another one."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from archiver.archive.check.contradictions import contradiction_findings
from archiver.archive.check.documents import SealCheck
from archiver.archive.check.heads import cover_of
from archiver.archive.check.packs import expected_packs
from archiver.archive.check.result import Findings
from archiver.archive.clock import next_time
from archiver.archive.copies import own_history
from archiver.archive.events import CopyLost, PlaceSeen, new_event
from archiver.archive.layout import CATALOGUE, digest_of
from archiver.archive.place_look import Device, look_at
from archiver.archive.places import Copies, Place, forgotten, place_name, place_of, settled_place
from archiver.archive.policy import Policy
from archiver.archive.publish import closure_names, missing_packs
from archiver.archive.transfer import Flow, Transfer
from archiver.catalogue.rebuild import open_catalogue
from archiver.errors import ArchiverError, UsageError, skip_damaged
from archiver.operations.copy import history
from archiver.operations.copy.files import Documents, copy_packs
from archiver.operations.copy.report import CopyOptions, CopyReport, Faults
from archiver.operations.copy.target import begin, open_target, require_room
from archiver.text import printable, utc_now

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from archiver.archive.archive import Archive
    from archiver.archive.check.packs import ExpectedPack
    from archiver.archive.findings import Finding
    from archiver.archive.seals import Snapshot
    from archiver.progress import Progress
    from archiver.throttle import Throttle


# ---- One run of copy, in the order that survives any crash: packs, manifests, seals, and then the journal.


_TELL_SECONDS: Final = 300
"""What was proven on its way is journalled so often: a run that dies loses no more of that."""


def copy(
    source: Archive,
    root: Path,
    options: CopyOptions,
    *,
    progress: Progress,
    throttle: Throttle | None = None,
) -> CopyReport:
    """Copy snapshots of ``source`` into the archive in ``root``; the options say whether it is new.

    What is damaged in the source is left out and told; the rest is copied.

    Raises:
        UsageError: ``root`` is the source or lies in it, or is to be a new replica and is something
            else already; or there is no such snapshot.
        NoArchiveError: No archive is there, or another one than the journal knows there.
        NoSpaceError: The disk is full, or has no room for the packs.
        DeniedError: Nothing may be written there.
    """
    return _Run(source, root, options, progress, throttle).run()


class _Run:
    """One run."""

    def __init__(
        self,
        source: Archive,
        root: Path,
        options: CopyOptions,
        progress: Progress,
        throttle: Throttle | None,
    ) -> None:
        self._source = source
        self._options = options
        self._progress = progress
        self._throttle = throttle
        self._now = utc_now()
        history = own_history(source, self._now)
        self._at = open_target(source, root, history, name=options.target_place, new=options.new)
        self._target, self._new = self._at.archive, not self._at.begun
        folder = source.store.folder
        self._own_device = look_at(folder.path).device if folder else Device()
        self._faults = Faults(source, self._target)
        silent = Transfer(source.store, self._target.store, Flow(None, throttle))
        self._documents = Documents(source, self._target, silent, self._faults)
        self._ends = (
            Place(options.source_place or place_name(source.store)),
            Place(options.target_place or place_of(Path(self._at.look.path))),
        )
        self._copied: list[Snapshot] = []
        self._packs = self._bytes = 0
        self._proven: list[str] = []
        """Packs that were copied, of which the first ``_noted`` are in the source's journal already."""
        self._noted = 0
        self._last_told = time.monotonic()
        self._was_part = False

    def run(self) -> CopyReport:
        """Copy what the target has not."""
        chosen, damaged = choose(self._source, self._options.references)
        self._faults.findings += damaged
        gone = forgotten(self._target.events(skip_damaged))
        held: set[str] = {one.id for one in chosen if self._holds(one)}
        wanted = [one for one in chosen if one.id in held or one.id not in gone]
        packs = [one for one in expected_packs(wanted) if self._is_to_be_copied(one)]
        self._expect(packs, [one for one in wanted if one.id not in held])
        if self._options.dry_run:
            return self._foretold(chosen, wanted, held, packs)
        begin(self._source, self._target, new=self._new)
        self._settle()
        # A replica that has only ever got chosen snapshots, and of the journal what tells of these.
        self._was_part = self._new or cover_of(self._target).scope == "snapshots"
        self._see()
        try:
            self._copy_packs(packs)
        except BaseException:
            self._note_proven()
            raise
        self._documents.sidecars({one.pack for one in expected_packs(wanted)} - self._faults.packs)
        self._target.store.barrier()
        present = self._publish(wanted, held)
        journalled = self._tell(present)
        self._index()
        return self._report(chosen, wanted, present, journalled=journalled)

    def _settle(self) -> None:
        """Learn which places they are: an archive of an older version gets its identity now."""
        one, other = self._ends
        self._ends = (
            one._replace(id=settled_place(self._source).id),
            other._replace(id=settled_place(self._target).id),
        )

    def _see(self) -> None:
        """Learn what the target's journal knows, and journal that both places were there."""
        one, other = self._ends
        seen = (
            _seen(one, place_name(self._source.store), self._own_device),
            _seen(other, place_of(Path(self._at.look.path)), self._at.look.device),
        )
        for place in self._at.gone:
            lose(self._source, place.id)
        try:
            self._source.require_writable()
            history.fetch_told(self._source, self._target, other)
            history.tell_seen(self._source, seen)
        except ArchiverError:
            history.tell_seen(self._target, seen)
            return
        if self._options.references or self._target.info.archive != self._source.info.archive:
            history.tell_seen(self._target, seen)  # the source's events do not come along

    # ---- what there is to copy

    def _holds(self, snapshot: Snapshot) -> bool:
        """Whether the target has the seal already."""
        size = self._target.store.stat(snapshot.name)
        return size is not None and size == self._source.store.stat(snapshot.name)

    def _is_to_be_copied(self, wanted: ExpectedPack) -> bool:
        faulty = self._faults.missing_pack(wanted)
        return not faulty and self._target.store.stat(wanted.name) not in wanted.sizes

    def _expect(self, packs: list[ExpectedPack], new: list[Snapshot]) -> None:
        size = sum(max(one.sizes) for one in packs)
        names = [name for one in new for name in (closure_names(one.seal)[0], one.name)]
        small = sum(self._source.store.stat(name) or 0 for name in names)
        self._require_room(self._at.look.free, size + small)
        self._progress.expect(len(packs), size)

    def _require_room(self, free: int | None, needed: int) -> None:
        require_room(free, self._target.store.address, needed, self._options.min_free)

    # ---- copying

    def _copy_packs(self, packs: list[ExpectedPack]) -> None:
        flow = Flow(self._progress, self._throttle)
        transfer = Transfer(self._source.store, self._target.store, flow)
        with closing(copy_packs(transfer, packs, self._options.workers, flow)) as copying:
            for wanted, state in copying:
                self._faults.pack(wanted, state)
                if not state.problem:
                    self._packs += 1
                    self._bytes += max(wanted.sizes)
                    self._proven.append(wanted.pack)
                self._progress.end(wanted.name)
                if self._options.min_free:
                    self._require_room(self._target.store.free_bytes(), 0)
                if time.monotonic() - self._last_told > _TELL_SECONDS:
                    self._note_proven()

    def _note_proven(self) -> None:
        """Journal the packs that are proven there so far, so that a run that dies has not lost that."""
        self._last_told = time.monotonic()
        new = self._proven[self._noted :]
        if new and history.told_copied(self._source, self._ends, set(), new):
            self._noted = len(self._proven)

    def _publish(self, wanted: list[Snapshot], held: set[str]) -> list[Snapshot]:
        """Manifests, then seals; the snapshots that the target has whole now."""
        complete = [one for one in wanted if not missing_packs(self._target, one.seal.packs)]
        readable = [one for one in complete if self._documents.manifest(one)]
        self._target.store.barrier()
        present = []
        for one in readable:
            if one.id not in held:
                if not self._documents.seal(one):
                    continue
                self._copied.append(one)
            present.append(one)
        self._target.store.barrier(one.name for one in present)
        return present

    # ---- the journals

    def _tell(self, present: list[Snapshot]) -> bool:
        """What belongs to the snapshots, and who has copies; whether the source's journal knows."""
        ids: set[str] = {one.id for one in present}
        if self._options.references:
            names = {one.seal.repository.casefold() for one in present}
            history.tell_anew(self._source, self._target, names, ids)
        else:
            self._merge_journals()
        documents = ids | {one.seal.manifest.blake3 for one in present} | self._common_events()
        self._documents.signatures(documents)
        self._documents.sidecars(documents)
        both: set[str] = {one.id for one in present if self._whole_in_source(one)}
        part = self._was_part and bool(self._options.references)
        history.tell_copied(
            self._target,
            self._ends,
            both,
            self._proven,
            whole=True,
            part=part,
            always=self._was_part and not part,
        )
        new = self._proven[self._noted :]
        return history.told_copied(self._source, self._ends, both, new, part=part)

    def _merge_journals(self) -> None:
        before = history.policy_of(self._target)
        history.keep_forgotten(self._source, self._target)
        self._documents.events()
        if self._target.info.archive != self._source.info.archive:
            history.keep_policy(self._target, before)

    def _common_events(self) -> set[str]:
        names = set(self._source.journal.names()) & set(self._target.journal.names())
        return {digest for digest in map(digest_of, names) if digest}

    def _whole_in_source(self, snapshot: Snapshot) -> bool:
        return self._faults.packs.isdisjoint(pack for pack, _ in snapshot.seal.packs)

    def _index(self) -> None:
        """Bring the target's catalogue up to date if it has one; the next command can do it too."""
        folder = self._target.store.folder
        if folder is None or not (folder.path / CATALOGUE).is_file():
            return
        try:
            open_catalogue(self._target, self._progress).close()
        except ArchiverError:
            return

    # ---- the report

    def _policy(self) -> Literal["same", "kept"]:
        """Whether the target wants what the source wants, or would after this run."""
        travels = (
            not self._options.references and self._target.info.archive == self._source.info.archive
        )
        if travels and self._options.dry_run:
            return "same"
        there = Policy() if self._options.dry_run and self._new else history.policy_of(self._target)
        return "same" if there == history.policy_of(self._source) else "kept"

    def _foretold(
        self,
        chosen: list[Snapshot],
        wanted: list[Snapshot],
        held: set[str],
        packs: list[ExpectedPack],
    ) -> CopyReport:
        """What a run would do, as far as that can be known without reading packs."""
        self._packs, self._bytes = len(packs), sum(max(one.sizes) for one in packs)
        coming = {one.pack for one in packs}
        present = [
            one for one in wanted if coming.issuperset(missing_packs(self._target, one.seal.packs))
        ]
        self._copied = [one for one in present if one.id not in held]
        return self._report(chosen, wanted, present, journalled=False)

    def _report(
        self,
        chosen: list[Snapshot],
        wanted: list[Snapshot],
        present: list[Snapshot],
        *,
        journalled: bool,
    ) -> CopyReport:
        here = {one.id for one in present}
        asked = {one.id for one in wanted}
        return CopyReport(
            source=self._source.store.address,
            target=self._target.store.address,
            source_place=self._ends[0].name,
            target_place=self._ends[1].name,
            dry_run=self._options.dry_run,
            created=self._new,
            snapshots=len(present),
            copied=tuple(one.title for one in self._copied),
            left=tuple(one.title for one in wanted if one.id not in here),
            forgotten=tuple(one.title for one in chosen if one.id not in asked),
            packs=self._packs,
            bytes=self._bytes,
            documents=self._documents.copied,
            journalled_source=journalled,
            medium=self._at.look.device.medium,
            device=self._at.look.device.label,
            same_device=self._at.look.device.shares(self._own_device),
            policy=self._policy(),
            findings=tuple(self._faults.findings),
            contradictions=() if self._options.dry_run else tuple(self._contradictions()),
        )

    def _contradictions(self) -> Iterator[Finding]:
        """Where what was copied gives a file of a commit other bytes than the target has, or the same."""
        repositories = {one.seal.repository for one in self._copied}
        revisions = {one.seal.revision for one in self._copied}
        there = [
            one
            for repository in sorted(repositories)
            for one in self._target.snapshots_of(repository, skip_damaged)
            if one.seal.revision in revisions
        ]
        policy = history.policy_of(self._target)
        append_only = policy is not None and policy.append_only
        yield from contradiction_findings(self._target, there, append_only=append_only)


def _seen(place: Place, where: str, device: Device) -> PlaceSeen:
    return PlaceSeen(
        place=place.name,
        id=place.id,
        where=where,
        medium=device.medium,
        devices=device.devices,
        label=device.label,
        filesystem=device.filesystem,
    )


# ---- Which snapshots are to be copied.


Reference = tuple[str, str | None]
"""Repository and (beginning of a) revision or seal's id; None: all of its revisions."""


def choose(
    source: Archive, references: Sequence[Reference]
) -> tuple[list[Snapshot], list[Finding]]:
    """The snapshots that the references name (all without any), and the seals that are damaged.

    UsageError if there is no such snapshot.
    """
    findings = Findings(source.store)
    seals = SealCheck(source, findings)
    if not references:
        return list(seals.all()), findings.all
    found = {one.id: one for one in _named(source, seals, findings, references)}
    return list(found.values()), findings.all


def _named(
    source: Archive, seals: SealCheck, findings: Findings, references: Iterable[Reference]
) -> Iterator[Snapshot]:
    for repository, revision in references:
        found = list(seals.of(repository, revision or ""))
        if not found and not findings.all:
            source.find(repository, revision)  # says what is held instead
        yield from found


# ---- Telling the journal that a place has no copies any more.


def lose(archive: Archive, place: str) -> int:
    """Journal that ``place``, a name or an identity, is lost; how many snapshots were said to be there.

    UsageError if the journal knows of no copies there, or several places have this name.
    """
    archive.require_writable()
    events = list(archive.events(skip_damaged))
    copies = Copies(events)
    found = copies.called(place)
    if not found:
        names = (
            ", ".join(sorted({printable(copies.name(one)) for one in copies.places()})) or "none"
        )
        raise UsageError(
            f"The journal tells of no copies at {printable(place)!r}.",
            hint=f"Places that it tells of: {names}.",
        )
    if len(found) > 1:
        raise UsageError(
            f"{len(found)} places are called {printable(place)!r}.",
            hint=f"Name the one that is lost by its identity: {', '.join(found)}.",
        )
    name = copies.name(found[0])
    lost = CopyLost(place=name, id=found[0] if found[0] != name else "")
    archive.record(new_event(lost, time=next_time(events)))
    return len(copies.places()[found[0]])
