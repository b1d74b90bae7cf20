"""Copy: make another folder a replica of an archive, or add this archive's snapshots to another one.

The order survives any crash: packs, manifests, seals, and then the journals of both.
"""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from archiver.archive.archive import Archive, KnownDocuments
from archiver.archive.check.contradictions import contradiction_findings
from archiver.archive.check.documents import SealCheck
from archiver.archive.check.heads import cover_of
from archiver.archive.check.packs import expected_packs
from archiver.archive.check.result import Findings
from archiver.archive.copies import own_history
from archiver.archive.events import PlaceSeen
from archiver.archive.findings import UNKNOWN, Finding
from archiver.archive.layout import CATALOGUE, digest_of
from archiver.archive.place_look import Device, Medium, look_at
from archiver.archive.places import Place, forgotten, place_name, place_of, settled_place
from archiver.archive.policy import Policy
from archiver.archive.publish import closure_names, missing_packs
from archiver.archive.repair.packs import copy_as_it_was
from archiver.archive.transfer import COPIER_BYTES, Flow, Transfer
from archiver.errors import ArchiverError, skip_damaged
from archiver.memory import MemoryBudget
from archiver.operations.copy import journals
from archiver.operations.copy.files import DocumentCopier, SourceFindings, copy_packs
from archiver.operations.copy.target import begin, open_target, require_room
from archiver.text import utc_now
from archiver.throttle import Throttle

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from archiver.archive.check.pack_reading import ExpectedPack
    from archiver.archive.seals import Snapshot
    from archiver.progress import Progress

_RECORD_SECONDS: Final = 300
"""What was proven on its way is journalled so often: a run that dies loses no more of that."""


class CopyRequest(msgspec.Struct, frozen=True):
    """What to copy, and how.

    Attributes:
        target: The folder to copy to.
        references: The snapshots to copy, as repository and (beginning of a) revision or seal's id;
            none: all.
        source_place: What the journal calls the place that is copied from; ``""``: host and path.
        target_place: The same of the place that is copied to.
        memory: What this may take, and so how many threads work.
        dry_run: Only say what would be copied.
        new: Begin a replica where no archive is; without it there must be one.
        min_free: So many bytes are to stay free there.
        max_rate: Bytes per second; None: as fast as it goes.
        known_documents: What this process read of the archive there before.
    """

    target: Path
    references: tuple[tuple[str, str | None], ...] = ()
    source_place: str = ""
    target_place: str = ""
    memory: MemoryBudget = MemoryBudget()
    dry_run: bool = False
    new: bool = False
    min_free: int = 0
    max_rate: int | None = None
    known_documents: KnownDocuments | None = None


class CopyReport(msgspec.Struct, frozen=True):
    """What was copied, or would be; ``bytes`` are those of packs.

    Attributes:
        created: The archive was begun by this run.
        snapshots: How many chosen ones the target has now, whole.
        copied: Titles of those that it had not before.
        left: Titles of those that could not be copied.
        forgotten: Titles of those that the target forgot on purpose.
        documents: Sidecars, signatures and events that were copied.
        journalled_source: Whether the copy is in the journal of the archive that was copied.
        medium: What the target lies on.
        device: Words for that disk or server, for people.
        same_device: Whether it is one that the archive which was copied lies on too, so that one fault
            takes both: such a copy does not count.
        policy: ``same``: the target wants what the archive wants; ``kept``: it goes on wanting
            something else, since a policy travels only with all of an archive, to a replica of it.
        contradictions: Where what was copied and what the target has give a file of one commit other
            bytes: findings and remarks of an audit there.
    """

    source: str
    target: str
    source_place: str
    target_place: str
    dry_run: bool
    created: bool
    snapshots: int
    copied: tuple[str, ...]
    left: tuple[str, ...]
    forgotten: tuple[str, ...]
    packs: int
    bytes: int
    documents: int
    journalled_source: bool
    medium: Medium
    device: str
    same_device: bool
    policy: Literal["same", "kept"]
    findings: tuple[Finding, ...]
    contradictions: tuple[Finding, ...] = ()

    @property
    def damage(self) -> tuple[Finding, ...]:
        """The findings that are more than a remark."""
        return tuple(finding for finding in self.findings if not finding.remark)

    @property
    def unreadable(self) -> bool:
        """Whether some files may not be read, and nothing else is wrong."""
        return bool(self.damage) and all(finding.code in UNKNOWN for finding in self.damage)


def copy(archive: Archive, request: CopyRequest, progress: Progress) -> CopyReport:
    """Copy snapshots of ``archive`` into another archive; the request says whether that one is new.

    What is damaged here is left out and named; the rest is copied.

    Raises:
        UsageError: The target is this archive or lies in it, or is to be a new replica and is something
            else already; or there is no such snapshot.
        NoArchiveError: No archive is there, or another one than the journal knows there.
        NoSpaceError: The disk is full, or has no room for the packs.
        DeniedError: Nothing may be written there.
    """
    return _Run(archive, request, progress).run()


class _Run:
    """One run."""

    def __init__(self, source: Archive, request: CopyRequest, progress: Progress) -> None:
        self._source = source
        self._request = request
        self._progress = progress
        self._throttle = Throttle(request.max_rate) if request.max_rate else None
        history = own_history(source, utc_now())
        self._at = open_target(
            source,
            request.target,
            history,
            name=request.target_place,
            new=request.new,
            known_documents=request.known_documents,
        )
        self._target, self._new = self._at.archive, not self._at.begun
        folder = source.store.folder
        self._source_device = look_at(folder.path).device if folder else Device()
        self._findings = SourceFindings(source, self._target)
        silent = Transfer(source.store, self._target.store, Flow(None, self._throttle))
        self._documents = DocumentCopier(source, self._target, silent, self._findings)
        self._ends = (
            Place(request.source_place or place_name(source.store)),
            Place(request.target_place or place_of(Path(self._at.look.path))),
        )
        self._copied: list[Snapshot] = []
        self._pack_count = self._pack_bytes = 0
        self._proven: list[str] = []
        """Packs that were copied, of which the first ``_recorded`` are in the source's journal already."""
        self._recorded = 0
        self._last_recorded = time.monotonic()
        self._was_part = False

    def run(self) -> CopyReport:
        """Copy what the target has not."""
        selected = self._select()
        forgotten_there = forgotten(self._target.standing_events())
        held: set[str] = {snapshot.id for snapshot in selected if self._holds(snapshot)}
        expected = [
            snapshot
            for snapshot in selected
            if snapshot.id in held or snapshot.id not in forgotten_there
        ]
        packs = [pack for pack in expected_packs(expected) if self._is_to_be_copied(pack)]
        self._expect(packs, [snapshot for snapshot in expected if snapshot.id not in held])
        if self._request.dry_run:
            # As far as that can be known without reading packs.
            self._pack_count = len(packs)
            self._pack_bytes = sum(max(pack.sizes) for pack in packs)
            coming = {pack.pack for pack in packs}
            present = [
                snapshot
                for snapshot in expected
                if coming.issuperset(missing_packs(self._target, snapshot.seal.packs))
            ]
            self._copied = [snapshot for snapshot in present if snapshot.id not in held]
            return self._report(selected, expected, present, journalled=False)
        begin(self._source, self._target, new=self._new)
        # An archive of an older version gets its identity now.
        source_place, target_place = self._ends
        self._ends = (
            source_place._replace(id=settled_place(self._source).id),
            target_place._replace(id=settled_place(self._target).id),
        )
        # A replica that has only ever got chosen snapshots, and of the journal what concerns these.
        self._was_part = self._new or cover_of(self._target).scope == "snapshots"
        self._record_seen()
        try:
            self._copy_packs(packs)
        except BaseException:
            self._record_proven()
            raise
        whole_packs = {pack.pack for pack in expected_packs(expected)} - self._findings.packs
        self._documents.sidecars(whole_packs)
        self._target.store.barrier()
        present = self._publish(expected, held)
        journalled = self._record(present)
        self._index()
        return self._report(selected, expected, present, journalled=journalled)

    # ---- what there is to copy

    def _select(self) -> list[Snapshot]:
        """Return the snapshots that the request names (all without any); damaged seals are noted.

        Raise UsageError if there is no such snapshot.
        """
        findings = Findings(self._source.store)
        seals = SealCheck(self._source, findings)
        if not self._request.references:
            selected = {snapshot.id: snapshot for snapshot in seals.all()}
        else:
            selected = {}
            for repository, revision in self._request.references:
                named = list(seals.of(repository, revision or ""))
                if not named and not findings.all:
                    self._source.find(repository, revision)  # raises what says what is held instead
                selected.update({snapshot.id: snapshot for snapshot in named})
        self._findings.all += findings.all
        return list(selected.values())

    def _holds(self, snapshot: Snapshot) -> bool:
        """Return whether the target has the seal already."""
        size = self._target.store.stat(snapshot.name)
        return size is not None and size == self._source.store.stat(snapshot.name)

    def _is_to_be_copied(self, pack: ExpectedPack) -> bool:
        lacking = self._findings.lacks(pack)
        return not lacking and self._target.store.stat(pack.name) not in pack.sizes

    def _expect(self, packs: list[ExpectedPack], new: list[Snapshot]) -> None:
        size = sum(max(pack.sizes) for pack in packs)
        names = [
            name for snapshot in new for name in (closure_names(snapshot.seal)[0], snapshot.name)
        ]
        small = sum(self._source.store.stat(name) or 0 for name in names)
        self._require_room(self._at.look.free, size + small)
        self._progress.expect(len(packs), size)

    def _require_room(self, free: int | None, needed: int) -> None:
        require_room(free, self._target.store.address, needed, self._request.min_free)

    # ---- copying

    def _copy_packs(self, packs: list[ExpectedPack]) -> None:
        flow = Flow(self._progress, self._throttle)
        transfer = Transfer(self._source.store, self._target.store, flow)
        workers = self._request.memory.workers(COPIER_BYTES)
        with closing(copy_packs(transfer, packs, workers, flow)) as copying:
            for pack, result in copying:
                self._findings.pack(pack, result)
                # What is damaged around the objects costs none of them.
                damaged = result.problem and not result.denied
                if not result.problem or (
                    damaged and copy_as_it_was(self._source, pack.pack, self._target.store)
                ):
                    self._pack_count += 1
                    self._pack_bytes += max(pack.sizes)
                    self._proven.append(pack.pack)
                self._progress.end(pack.name)
                if self._request.min_free:
                    self._require_room(self._target.store.free_bytes(), 0)
                if time.monotonic() - self._last_recorded > _RECORD_SECONDS:
                    self._record_proven()

    def _publish(self, expected: list[Snapshot], held: set[str]) -> list[Snapshot]:
        """Publish manifests, then seals; return the snapshots that the target has whole now."""
        complete = [
            snapshot
            for snapshot in expected
            if not missing_packs(self._target, snapshot.seal.packs)
        ]
        readable = [snapshot for snapshot in complete if self._documents.manifest(snapshot)]
        self._target.store.barrier()
        present = []
        for snapshot in readable:
            if snapshot.id not in held:
                if not self._documents.seal(snapshot):
                    continue
                self._copied.append(snapshot)
            present.append(snapshot)
        self._target.store.barrier(snapshot.name for snapshot in present)
        return present

    def _index(self) -> None:
        """Bring the target's catalogue up to date if it has one; the next command can do it too."""
        folder = self._target.store.folder
        if folder is None or not (folder.path / CATALOGUE).is_file():
            return
        # Where it lacks nothing, or is asked what it lacks, SQL is not loaded.
        from archiver.catalogue.rebuild import open_catalogue  # noqa: PLC0415

        try:
            open_catalogue(self._target, self._progress).close()
        except ArchiverError:
            return

    # ---- the journals

    def _record_seen(self) -> None:
        """Learn what the target's journal knows, and journal that both places were there."""
        source_place, target_place = self._ends
        target_path = place_of(Path(self._at.look.path))
        seen = (
            _seen(source_place, place_name(self._source.store), self._source_device),
            _seen(target_place, target_path, self._at.look.device),
        )
        for place in self._at.gone:
            journals.record_lost(self._source, place.id)
        try:
            self._source.require_writable()
            journals.fetch_copies_and_proofs(self._source, self._target, target_place)
            journals.record_seen(self._source, seen)
        except ArchiverError:
            journals.record_seen(self._target, seen)
            return
        if self._request.references or self._target.info.archive != self._source.info.archive:
            journals.record_seen(self._target, seen)  # the source's events do not come along

    def _record_proven(self) -> None:
        """Journal the packs that are proven there so far, so that a run that dies has not lost that."""
        self._last_recorded = time.monotonic()
        new = self._proven[self._recorded :]
        if new and journals.try_record_copied(self._source, self._ends, set(), new):
            self._recorded = len(self._proven)

    def _record(self, present: list[Snapshot]) -> bool:
        """Bring over what belongs to the snapshots, and journal who has copies.

        Return whether the source's journal knows.
        """
        ids: set[str] = {snapshot.id for snapshot in present}
        if self._request.references:
            repositories = {snapshot.seal.repository.casefold() for snapshot in present}
            journals.record_again(self._source, self._target, repositories, ids)
        else:
            before = journals.policy_if_readable(self._target)
            journals.keep_forgotten(self._source, self._target)
            self._documents.events()
            if self._target.info.archive != self._source.info.archive:
                journals.keep_policy(self._target, before)
        # After the events: what both journals have may be signed.
        common = set(self._source.journal.names()) & set(self._target.journal.names())
        events = {digest for digest in map(digest_of, common) if digest}
        documents = ids | {snapshot.seal.manifest.blake3 for snapshot in present} | events
        self._documents.signatures(documents)
        self._documents.sidecars(documents)
        both: set[str] = {
            snapshot.id
            for snapshot in present
            if self._findings.packs.isdisjoint(pack for pack, _ in snapshot.seal.packs)
        }
        part = self._was_part and bool(self._request.references)
        journals.record_copied(
            self._target,
            self._ends,
            both,
            self._proven,
            whole=True,
            part=part,
            always=self._was_part and not part,
        )
        new = self._proven[self._recorded :]
        return journals.try_record_copied(self._source, self._ends, both, new, part=part)

    # ---- the report

    def _report(
        self,
        selected: list[Snapshot],
        expected: list[Snapshot],
        present: list[Snapshot],
        *,
        journalled: bool,
    ) -> CopyReport:
        expected_ids = {snapshot.id for snapshot in expected}
        return CopyReport(
            source=self._source.store.address,
            target=self._target.store.address,
            source_place=self._ends[0].name,
            target_place=self._ends[1].name,
            dry_run=self._request.dry_run,
            created=self._new,
            snapshots=len(present),
            copied=_titles(self._copied),
            left=_titles(expected, without={snapshot.id for snapshot in present}),
            forgotten=_titles(selected, without=expected_ids),
            packs=self._pack_count,
            bytes=self._pack_bytes,
            documents=self._documents.copied,
            journalled_source=journalled,
            medium=self._at.look.device.medium,
            device=self._at.look.device.label,
            same_device=self._at.look.device.shares(self._source_device),
            policy=self._policy(),
            findings=tuple(self._findings.all),
            contradictions=() if self._request.dry_run else tuple(self._contradictions()),
        )

    def _policy(self) -> Literal["same", "kept"]:
        """Return whether the target wants what the source wants, or would after this run."""
        travels = (
            not self._request.references and self._target.info.archive == self._source.info.archive
        )
        if travels and self._request.dry_run:
            return "same"
        unbegun = self._request.dry_run and self._new
        there = Policy() if unbegun else journals.policy_if_readable(self._target)
        return "same" if there == journals.policy_if_readable(self._source) else "kept"

    def _contradictions(self) -> Iterator[Finding]:
        """Give findings where what was copied gives a file of a commit other bytes than the target has."""
        repositories = {snapshot.seal.repository for snapshot in self._copied}
        revisions = {snapshot.seal.revision for snapshot in self._copied}
        there = [
            snapshot
            for repository in sorted(repositories)
            for snapshot in self._target.snapshots_of(repository, skip_damaged)
            if snapshot.seal.revision in revisions
        ]
        policy = journals.policy_if_readable(self._target)
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


def _titles(snapshots: Iterable[Snapshot], without: Iterable[str] = ()) -> tuple[str, ...]:
    left_out = set(without)
    return tuple(snapshot.title for snapshot in snapshots if snapshot.id not in left_out)
