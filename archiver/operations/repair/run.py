"""Repair: bring back what an audit finds damaged or missing, from every place that still has it.

Nothing is filled with zeros, no manifest is ever rewritten, and no damaged byte is hashed into anything
new. What is replaced stays in ``quarantine/``.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

from archiver.archive.advice import Advice, asks_for_repair
from archiver.archive.archive import Archive
from archiver.archive.check.result import CheckRequest
from archiver.archive.check.run import check_archive
from archiver.archive.findings import Finding
from archiver.archive.layout import PLACE, digest_of
from archiver.archive.places import place_damaged, settled_place
from archiver.archive.prune.trash import deleting
from archiver.archive.repair.documents import JOURNAL, Documents
from archiver.archive.repair.dry_run import Foreseen, mended_packs, would_remain
from archiver.archive.repair.repack import Packs, PackState
from archiver.archive.repair.reseal import Resealed, repaired_events, reseal, set_aside
from archiver.archive.repair.sidecars import Companions, protect_new
from archiver.archive.repair.whole_files import PURPOSE, Mended, WholeFiles
from archiver.catalogue import updates
from archiver.catalogue.rebuild import catalogue_path, open_catalogue, rebuild_catalogue
from archiver.catalogue.sqlite_file import damage_of
from archiver.errors import ArchiverError
from archiver.operations.repair.sources import Places
from archiver.progress import NoProgress
from archiver.upstream.protocol import Upstream

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from archiver.archive.check.result import CheckResult
    from archiver.archive.policy import Level
    from archiver.progress import Progress


# ---- One run of a repair: documents first, for they say what is needed; then packs; then another look.


_ROUNDS: Final = 8
"""A seal that came back may name a manifest that is missing, and so on."""


class RepairOptions(msgspec.Struct, frozen=True):
    """How to repair.

    Attributes:
        others: Other archives and plain folders to take from, in this order.
        connect: Opens upstream; None to leave it alone.
        repository: Only what this repository's snapshots need, or all; and ``revision`` its beginning.
        revision: See there.
        dry_run: Write nothing, and say what would be done.
        workers: How many threads read.
    """

    others: tuple[Path, ...] = ()
    connect: Callable[[], Upstream] | None = None
    repository: str | None = None
    revision: str | None = None
    dry_run: bool = False
    workers: int = 1


def repair(archive: Archive, options: RepairOptions, progress: Progress) -> RepairReport:
    """Bring back whatever is damaged and can be had.

    Raises:
        UsageError: No such snapshot, no such folder, or the archive itself was named as a source.
        LockedError: Another repair of this archive, ``forget`` or ``prune`` is at work.
        NoSpaceError, DeniedError: Nothing can be written; everything is as restorable as it was.
    """
    if options.dry_run:
        return _Run(archive, options, progress).execute()
    archive.require_writable()
    with deleting(archive.store):
        for leftover in archive.store.leftovers(PURPOSE):
            leftover.discard()
        # A run that died may have published what looks whole now, and not synced the folder.
        archive.store.barrier(name for name in archive.store.list("") if digest_of(name))
        return _Run(archive, options, progress).execute()


class _Run:
    """One run."""

    def __init__(self, archive: Archive, options: RepairOptions, progress: Progress) -> None:
        self._archive = archive
        self._options = options
        self._progress = progress
        self._places = Places(archive, options.others, options.connect)
        self._whole = WholeFiles(archive.store, self._places.files(), dry_run=options.dry_run)

        self._place: tuple[Mended, ...] = ()

    def execute(self) -> RepairReport:
        """Repair, and look again."""
        try:
            return self._execute()
        finally:
            self._places.close()

    def _execute(self) -> RepairReport:
        self._progress.phase("Looking at")
        self._place = self._settle()
        healed = self._documents()
        self._progress.phase("Reading")
        found = self._examine("content")
        findings = [one for one in found.findings if not one.remark and one not in healed]
        if not healed and not findings:
            index = (*self._place, *mend(self._archive, dry_run=self._options.dry_run))
            return RepairReport(self._options.dry_run, 0, index)
        packs = Packs(self._archive, found, self._places.stores)
        state = packs.bring_back(self._whole)
        self._journal(state.mended)
        end = self._foretell if self._options.dry_run else self._mend
        return end(packs, state, healed, findings)

    def _examine(self, level: Level) -> CheckResult:
        found = check_archive(
            self._fresh(),
            CheckRequest(
                self._options.repository,
                self._options.revision,
                level,
                workers=self._options.workers,
            ),
            self._progress,
        )
        self._places.misplaced.learn(found)
        return found

    def _fresh(self) -> Archive:
        """The archive without what was opened before: packs may have been replaced."""
        store, ahead = self._archive.store, self._whole.foreseen
        return Archive(Foreseen(store, ahead) if ahead else store, self._archive.info)

    def _settle(self) -> tuple[Mended, ...]:
        """Write what says which place this is anew if it is damaged."""
        damaged = place_damaged(self._archive)
        if not self._options.dry_run:
            settled_place(self._archive)
        return (Mended(PLACE, "this version of archiver"),) if damaged else ()

    # ---- documents

    def _documents(self) -> dict[Finding, Mended]:
        """Heal what says what is needed, until nothing new comes back."""
        documents = Documents(self._archive, self._places.replicas, self._whole)
        healed: dict[Finding, Mended] = {}
        for _ in range(_ROUNDS):
            back = documents.heal(self._examine("structure"))
            self._journal(back.values())
            healed |= back
            foreseen = self._options.dry_run and any(one.code not in JOURNAL for one in back)
            if not back or foreseen:
                break
        return healed

    # ---- packs

    def _mend(
        self,
        packs: Packs,
        state: PackState,
        healed: dict[Finding, Mended],
        findings: Sequence[Finding],
    ) -> RepairReport:
        """Make packs anew; then new seals, then the event, and then what they stand in for goes."""
        self._progress.phase("Protecting")
        recut = packs.recut(state, self._places.objects())
        archive = self._fresh()
        resealed, aside = reseal(archive, state.hit, state.bad - recut.same.keys(), recut.packs)
        made = recut.mended(aside)
        self._journal(made, [one.old for one in resealed])
        if aside:
            forget(archive, aside)
        gone = set_aside(archive, resealed, aside)
        index = (*self._place, *mend(self._fresh(), dry_run=False))
        if gone:
            rebuild(self._fresh())
        companions = self._companions()
        extra = companions.heal(findings)
        self._journal(extra.values())
        notes = protect_new(
            self._fresh(), recut.names(resealed), self._progress, self._options.workers
        )
        self._progress.phase("Proving")
        state.needs.clear()
        after = self._examine("content")
        return RepairReport(
            dry_run=False,
            damage=len(healed) + len(findings),
            mended=(*healed.values(), *state.mended, *made, *extra.values(), *index),
            resealed=tuple(resealed),
            aside=(*gone, *companions.aside),
            notes=(*self._places.notes, *notes),
            remaining=self._still(one for one in after.findings if not one.remark),
        )

    def _foretell(
        self,
        packs: Packs,
        state: PackState,
        healed: dict[Finding, Mended],
        findings: Sequence[Finding],
    ) -> RepairReport:
        recut = packs.foresee(state, self._places.objects())
        extra = self._companions().heal(findings)
        mended = (
            *self._place,
            *healed.values(),
            *state.mended,
            *mended_packs(state, recut),
            *extra.values(),
        )
        left = [one for one in findings if one not in extra]
        return RepairReport(
            dry_run=True,
            damage=len(healed) + len(findings),
            mended=mended,
            notes=self._places.notes,
            remaining=self._still(would_remain(left, mended, state, recut)),
        )

    # ---- the rest

    def _still(self, findings: Iterable[Finding]) -> tuple[Finding, ...]:
        """What could not be mended: none of them says to run the same repair again."""
        advice = Advice(self._archive.store.address)
        return tuple(
            replace(one, actions=advice.more_places(one.code))
            if asks_for_repair(one.actions)
            else one
            for one in findings
        )

    def _companions(self) -> Companions:
        return Companions(
            self._fresh(),
            self._places.replicas,
            self._whole,
            self._progress,
            self._options.workers,
        )

    def _journal(self, mended: Iterable[Mended], snapshots: Sequence[str] = ()) -> None:
        """Record what came from where; before anything is set aside."""
        if not self._options.dry_run:
            journal, place = self._archive.journal, settled_place(self._archive).key
            for event in repaired_events(journal, place, mended, snapshots):
                self._archive.record(event)


# ---- Keeping the SQL index in step with a repair. It is a hint: what goes wrong with it is never an error.


def forget(archive: Archive, packs: Iterable[str]) -> None:
    """Take packs out of the index before they are taken out of use."""
    if not catalogue_path(archive).exists():
        return
    with suppress(ArchiverError), open_catalogue(archive, NoProgress()) as catalogue:
        for pack in packs:
            updates.forget_pack(catalogue, pack)


def rebuild(archive: Archive) -> None:
    """Write the index anew, if there is one, because seals went that it knows of."""
    if catalogue_path(archive).exists():
        with suppress(ArchiverError):
            rebuild_catalogue(archive, NoProgress())


def mend(archive: Archive, *, dry_run: bool) -> tuple[Mended, ...]:
    """Write a damaged index anew; nothing if it is whole, or not there."""
    path = catalogue_path(archive)
    if not damage_of(path):
        return ()
    if not dry_run:
        rebuild(archive)
    return (Mended(path.name, "the archive's own files"),)


# ---- What a repair did, and what is left.


class RepairReport(msgspec.Struct, frozen=True):
    """What was damaged, what was done, and what is damaged still.

    Attributes:
        dry_run: Whether nothing was written: ``mended`` and ``resealed`` are what would be done.
        damage: How many findings there were before.
        mended: What is right again.
        resealed: The snapshots that have a new seal.
        aside: The stored files that were taken out of use, by the names that they had.
        notes: What kept a source from helping.
        remaining: What could not be mended, and whom it hits.
    """

    dry_run: bool
    damage: int
    mended: tuple[Mended, ...] = ()
    resealed: tuple[Resealed, ...] = ()
    aside: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    remaining: tuple[Finding, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether everything is right now, or would be."""
        return not self.remaining
