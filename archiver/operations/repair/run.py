"""Repair: bring back what an audit finds damaged or missing, from every place that still has it.

Nothing is filled with zeros, no manifest is ever rewritten, and no damaged byte is hashed into anything
new. What is replaced stays in ``quarantine/``.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

from archiver.archive.advice import Advice, asks_for_repair
from archiver.archive.archive import Archive
from archiver.archive.check.proofs import audited_parts, proofs_of, readable_events
from archiver.archive.check.result import CheckRequest
from archiver.archive.check.run import check_archive
from archiver.archive.events import Audited, new_event
from archiver.archive.findings import Finding
from archiver.archive.layout import PLACE, digest_of, is_seal, pack_name
from archiver.archive.packs.format import STORED_MAX
from archiver.archive.packs.reader import DECODER_BYTES
from archiver.archive.places import own_place, place_damaged, settled_place
from archiver.archive.policy import proves
from archiver.archive.prune.trash import removal_lock
from archiver.archive.quarantine import move_to_quarantine
from archiver.archive.repair.documents import JOURNAL_CODES, DocumentRepair
from archiver.archive.repair.dry_run import OverlayStore
from archiver.archive.repair.packs import (
    predict_repack,
    predicted_findings,
    predicted_packs,
    repack,
    repair_whole_packs,
)
from archiver.archive.repair.reseal import Resealed, quarantine_replaced, repaired_events, reseal
from archiver.archive.repair.sidecars import SidecarRepair, protect_new
from archiver.archive.repair.stored_files import PURPOSE, FileRepair, RepairedFile
from archiver.catalogue import updates
from archiver.catalogue.location import catalogue_path
from archiver.catalogue.rebuild import open_catalogue, rebuild_catalogue
from archiver.catalogue.sqlite_file import damage_of
from archiver.errors import ArchiverError
from archiver.memory import MemoryBudget
from archiver.operations.repair.sources import RepairSources
from archiver.progress import Progress
from archiver.text import utc_now
from archiver.upstream.protocol import Upstream

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from archiver.archive.check.result import CheckResult
    from archiver.archive.policy import Level
    from archiver.archive.repair.packs import PackDamage

_LEVEL: Final[Level] = "content"
"""So deeply everything is read."""
_ROUNDS: Final = 8
"""A seal that came back may name a manifest that is missing, and so on."""


class RepairRequest(msgspec.Struct, frozen=True):
    """How to repair.

    Attributes:
        folders: Other archives and plain folders to take from, in this order.
        connect: Opens upstream; None to leave it alone.
        repository: Only what this repository's snapshots need, or all; and ``revision`` its beginning.
        revision: See there.
        dry_run: Write nothing, and say what would be done.
        memory: What this may take, and so how many threads work.
    """

    folders: tuple[Path, ...] = ()
    connect: Callable[[], Upstream] | None = None
    repository: str | None = None
    revision: str | None = None
    dry_run: bool = False
    memory: MemoryBudget = MemoryBudget()


class RepairReport(msgspec.Struct, frozen=True):
    """What was damaged, what was done, and what is damaged still.

    Attributes:
        dry_run: Whether nothing was written: ``repaired`` is what would be done.
        damage: How many findings there were before.
        repaired: What is right again.
        resealed: The snapshots that have a new seal.
        quarantined: The stored files that were taken out of use, by the names that they had.
        notes: What kept a source from helping.
        remaining: What could not be repaired, and whom it hits.
        cleared: The stored files that the journal called damaged and that were whole when they were read.
    """

    dry_run: bool
    damage: int
    repaired: tuple[RepairedFile, ...] = ()
    resealed: tuple[Resealed, ...] = ()
    quarantined: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    remaining: tuple[Finding, ...] = ()
    cleared: tuple[str, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether everything is right now, or would be."""
        return not self.remaining


def repair(archive: Archive, request: RepairRequest, progress: Progress) -> RepairReport:
    """Bring back whatever is damaged and can be had.

    Raises:
        UsageError: No such snapshot, no such folder, or the archive itself was named as a source.
        LockedError: Another repair of this archive, ``forget`` or ``prune`` is at work.
        NoSpaceError, DeniedError: Nothing can be written; everything is as restorable as it was.
        NotUnderstoodError: A pack or seal needs a newer version; nothing was done.
    """
    archive.require_understood()
    with ExitStack() as stack:
        if not request.dry_run:
            archive.require_writable()
            stack.enter_context(removal_lock(archive.store))
            for leftover in archive.store.leftovers(PURPOSE):
                leftover.discard()
            # A run that died may have published what looks whole now, and not synced the folder.
            archive.store.barrier(name for name in archive.store.list("") if digest_of(name))
        sources = RepairSources(archive, request.folders, request.connect)
        stack.enter_context(closing(sources))
        return _Run(archive, request, progress, sources).execute()


class _Run:
    """One run of a repair."""

    def __init__(
        self, archive: Archive, request: RepairRequest, progress: Progress, sources: RepairSources
    ) -> None:
        self._archive = archive
        self._request = request
        self._progress = progress
        self._sources = sources
        self._workers = request.memory.workers(DECODER_BYTES + STORED_MAX)
        self._files = FileRepair(archive.store, sources.files(), dry_run=request.dry_run)
        self._set_aside: list[str] = []
        """Damaged seals for which new ones were made, by the names that they had."""

    def execute(self) -> RepairReport:
        """Repair in the one order that survives a crash, or ``kill -9``, between any two steps.

        Whatever is cut short, each visible seal can be restored from as far as it could before, and the
        next repair goes on from what it finds.
        """
        self._progress.phase("Looking at")
        place = self._repair_place()

        # Documents first, for they say what is needed: a pack of a seal that is lost looks like one that
        # nothing needs.
        documents = self._repair_documents()

        self._progress.phase("Reading")
        check = self._check(_LEVEL)
        findings = [
            finding for finding in check.findings if not finding.remark and finding not in documents
        ]
        if not documents and not findings:
            index = _repair_catalogue(self._archive, dry_run=self._request.dry_run)
            cleared = self._clear(check)
            return RepairReport(self._request.dry_run, 0, (*place, *index), cleared=cleared)

        # Packs as whole files before anything is made anew: such a pack keeps its name, so no seal changes.
        damage = repair_whole_packs(self._archive, check, self._files)
        self._journal(damage.repaired)
        if self._request.dry_run:
            return self._predict(place, documents, findings, damage)

        # New packs beside the damaged ones: no seal names them yet, so a crash leaves nothing but files
        # that nobody needs. They are durable when this returns.
        self._progress.phase("Repacking")
        repacked = repack(
            self._fresh_archive(),
            check,
            damage,
            self._sources.objects(),
            self._sources.stores,
        )

        # New seals once all that they name is there. For a moment a snapshot has two, of which the old one
        # is as good as it was.
        still_damaged = damage.damaged - repacked.rebuilt.keys()
        resealed, replaced = reseal(
            self._fresh_archive(), damage.affected, still_damaged, repacked.new_packs
        )

        # The event before anything goes: a seal that is gone and that no event explains is itself damage.
        repaired_packs = repacked.repaired_files(replaced)
        self._journal(repaired_packs, [seal.old for seal in resealed])

        # The old seals, and then the packs that only they stood on. The index must not name what is gone.
        _forget_packs(self._archive, replaced)
        quarantined = quarantine_replaced(self._fresh_archive(), resealed, replaced)
        index = _repair_catalogue(self._fresh_archive(), dry_run=False)
        if quarantined or any(file.replaced_by for file in documents.values()):
            _rebuild_catalogue(self._fresh_archive())

        self._progress.phase("Protecting")
        # Sidecars last: they are made of the files that they protect, which are whole only now.
        sidecar_repair = self._sidecar_repair()
        sidecars = sidecar_repair.repair(findings)
        self._journal(sidecars.values())
        new_files = [
            *map(pack_name, repacked.new_packs),
            *(seal.new_name for seal in resealed),
            *(name for file in documents.values() for name in file.replaced_by),
        ]
        protection_notes = protect_new(
            self._fresh_archive(), new_files, self._progress, self._workers
        )

        # Success is said only of what was read again.
        self._progress.phase("Proving")
        damage.missing.clear()
        after = self._check(_LEVEL)
        return RepairReport(
            dry_run=False,
            damage=len(documents) + len(findings),
            repaired=(
                *documents.values(),
                *damage.repaired,
                *repaired_packs,
                *sidecars.values(),
                *place,
                *index,
            ),
            resealed=tuple(resealed),
            quarantined=(*self._set_aside, *quarantined, *sidecar_repair.quarantined),
            notes=(*self._sources.notes, *protection_notes),
            remaining=self._remaining(each for each in after.findings if not each.remark),
            cleared=self._clear(after),
        )

    def _clear(self, check: CheckResult) -> tuple[str, ...]:
        """Journal what counts as damaged and came out whole, as an audit does; return its names.

        A cable that failed for a while leaves nothing to repair, and what a reader met, or an audit found,
        would stand until all is audited anew. What was repaired is not of it: the journal knows that.
        """
        archive, request = self._fresh_archive(), self._request
        place = own_place(archive)
        known = proofs_of(readable_events(archive.journal), utc_now(), place)
        packs = [
            result.pack
            for result in check.pack_results
            if known.damaged(result.pack)
            and result.whole
            and not result.unstable
            and proves(result.level, _LEVEL)
        ]
        broken = known.broken.difference(check.damaged_files) if check.checked else frozenset()
        names = (*map(pack_name, packs), *sorted(broken))
        if request.dry_run or not names:
            return names
        detail = Audited(
            _LEVEL,
            checked=check.checked if broken else (),
            damaged=sum(not finding.remark for finding in check.findings),
            damaged_files=tuple(check.damaged_files) if broken else (),
            packs=tuple(packs),
            place=settled_place(self._archive).key,
            run=secrets.token_hex(8),
        )
        for part in audited_parts(detail):
            subject = request.repository or "", request.revision or ""
            self._archive.record(new_event(part, *subject))
        return names

    def _predict(
        self,
        place: tuple[RepairedFile, ...],
        documents: dict[Finding, RepairedFile],
        findings: Sequence[Finding],
        damage: PackDamage,
    ) -> RepairReport:
        """Return what the rest of the run would do."""
        repacked = predict_repack(damage, self._sources.objects())
        sidecars = self._sidecar_repair().repair(findings)
        repaired = (
            *place,
            *documents.values(),
            *damage.repaired,
            *predicted_packs(damage, repacked),
            *sidecars.values(),
        )
        others = [finding for finding in findings if finding not in sidecars]
        return RepairReport(
            dry_run=True,
            damage=len(documents) + len(findings),
            repaired=repaired,
            notes=self._sources.notes,
            remaining=self._remaining(predicted_findings(others, repaired, damage, repacked)),
        )

    def _repair_place(self) -> tuple[RepairedFile, ...]:
        """Write what says which place this is anew if it is damaged."""
        damaged = place_damaged(self._archive)
        if not self._request.dry_run:
            settled_place(self._archive)  # also gives a place its identity that had none
        return (RepairedFile(PLACE, "this version of archiver"),) if damaged else ()

    def _repair_documents(self) -> dict[Finding, RepairedFile]:
        """Repair what says what is needed, until nothing new comes back."""
        documents = DocumentRepair(self._archive, self._sources.replicas, self._files)
        repaired: dict[Finding, RepairedFile] = {}
        for _ in range(_ROUNDS):
            back = documents.repair(self._check("structure"))
            # A seal that could only be made anew has another id. The lost one is set aside: the event
            # before the file, since a seal that is gone and that no event explains is damage. Within the
            # second in which it was sealed first it comes out the same, and stays.
            lost = [
                file.name
                for file in back.values()
                if is_seal(file.name) and file.replaced_by and file.name not in file.replaced_by
            ]
            self._journal(back.values(), [digest_of(name) or "" for name in lost])
            if not self._request.dry_run:
                self._set_aside += filter(
                    None, [move_to_quarantine(self._archive.store, name) and name for name in lost]
                )
            repaired |= back
            # A dry run sees the events that would come back, and no other document: nothing would follow.
            only_said = self._request.dry_run and any(
                finding.code not in JOURNAL_CODES for finding in back
            )
            if not back or only_said:
                break
        return repaired

    def _check(self, level: Level) -> CheckResult:
        request = CheckRequest(
            self._request.repository,
            self._request.revision,
            level,
            memory=self._request.memory,
        )
        check = check_archive(self._fresh_archive(), request, self._progress)
        self._sources.misnamed.learn(check)
        return check

    def _fresh_archive(self) -> Archive:
        """Return the archive without what was opened before: packs may have been replaced."""
        store, events = self._archive.store, self._files.unwritten_events
        return Archive(OverlayStore(store, events) if events else store, self._archive.info)

    def _sidecar_repair(self) -> SidecarRepair:
        return SidecarRepair(
            self._fresh_archive(),
            self._sources.replicas,
            self._files,
            self._progress,
            self._workers,
        )

    def _journal(self, repaired: Iterable[RepairedFile], seals: Sequence[str] = ()) -> None:
        """Record what came from where, and the ids of the seals that are about to go."""
        if not self._request.dry_run:
            journal, place = self._archive.journal, settled_place(self._archive).key
            for event in repaired_events(journal, place, repaired, seals):
                self._archive.record(event)

    def _remaining(self, findings: Iterable[Finding]) -> tuple[Finding, ...]:
        """Return what could not be repaired: none of them says to run the same repair again."""
        advice = Advice(self._archive.store.address)
        return tuple(
            replace(finding, actions=advice.more_places(finding.code))
            if asks_for_repair(finding.actions)
            else finding
            for finding in findings
        )


# The catalogue is a hint: what goes wrong with it is never an error.


def _forget_packs(archive: Archive, packs: frozenset[str]) -> None:
    """Take packs out of the catalogue before they are taken out of use."""
    if packs and catalogue_path(archive).exists():
        with suppress(ArchiverError), open_catalogue(archive, Progress()) as catalogue:
            for pack in packs:
                updates.forget_pack(catalogue, pack)


def _rebuild_catalogue(archive: Archive) -> None:
    """Write the catalogue anew, if there is one, because seals went that it knows of."""
    if catalogue_path(archive).exists():
        with suppress(ArchiverError):
            rebuild_catalogue(archive, Progress())


def _repair_catalogue(archive: Archive, *, dry_run: bool) -> tuple[RepairedFile, ...]:
    """Write a damaged catalogue anew; nothing if it is whole, or not there."""
    path = catalogue_path(archive)
    if not damage_of(path):
        return ()
    if not dry_run:
        _rebuild_catalogue(archive)
    return (RepairedFile(path.name, "the archive's own files"),)
