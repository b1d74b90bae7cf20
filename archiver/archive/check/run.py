"""Examining an archive: whether it holds what its seals say, and everything that it does not.

Reading goes seals, packs, manifests. Every pack is read once, front to back; several are read at a
time. Memory is a few buffers a thread and 32 bytes an object. Nothing is written.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Final, get_args

import msgspec

from archiver.archive import layout
from archiver.archive.check.contradictions import contradiction_findings
from archiver.archive.check.documents import Documents, check_writers
from archiver.archive.check.files import FileProof
from archiver.archive.check.impact import Bad, Closing, ObjectTable
from archiver.archive.check.packs import (
    PackResult,
    check_packs,
    expected_packs,
    others,
    pack_findings,
)
from archiver.archive.check.result import CheckRequest, CheckResult, Findings, Scope
from archiver.archive.check.schedule import UNLIMITED, Schedule, portions_of
from archiver.archive.check.sidecars import parity_findings, signature_findings
from archiver.archive.findings import Code, Finding
from archiver.archive.layout import pack_name
from archiver.archive.policy import proves
from archiver.errors import DeniedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from archiver.archive.advice import Advice
    from archiver.archive.archive import Archive
    from archiver.archive.check.heads import TrustedHead
    from archiver.archive.check.history import Proofs
    from archiver.archive.check.packs import ExpectedPack
    from archiver.archive.check.schedule import Portion
    from archiver.archive.policy import Level
    from archiver.archive.seals import Snapshot
    from archiver.progress import Progress
    from archiver.storage.store import Store


_ORDER: Final = {code: number for number, code in enumerate(get_args(Code))}


def check_archive(
    archive: Archive,
    request: CheckRequest,
    progress: Progress,
    on_pack: OnExamined = lambda _result: None,
) -> CheckResult:
    """Check an archive, or some of its snapshots; ``on_pack`` is told of each pack once it was read.

    Raises UsageError if there is no such snapshot, or a key is none.
    """
    scope = Scope(request.repository, request.revision or "")
    run = _Run(archive, scope, request.level, request.workers, progress, on_pack)
    run.deep = proves(request.level, "stored") and request.limits == UNLIMITED
    run.keys = request.keys
    return run.run(Schedule(request.limits), request.heads)


class _Run:
    """One run."""

    def __init__(
        self,
        archive: Archive,
        scope: Scope,
        level: Level,
        workers: int,
        progress: Progress,
        told: OnExamined,
    ) -> None:
        self._archive = archive
        self._scope = scope
        self._level = level
        self._workers = workers
        self._progress = progress
        self._findings = Findings(archive.store)
        self._documents = Documents(archive, scope, self._findings)
        self._reading = Reading(
            archive.store, self._findings.advice, self._findings.all, progress, workers, told
        )
        self.deep = False
        """Whether sidecars are read whole."""
        self.keys: Sequence[str] = ()
        """The keys that are trusted instead of the policy's."""

    def run(self, schedule: Schedule, heads: Iterable[TrustedHead]) -> CheckResult:
        """Read what is due, look at the rest, and judge."""
        snapshots = self._documents.snapshots()
        packs = expected_packs(snapshots)
        if self._scope.repository is None:
            packs += others(self._archive, packs)
        files = FileProof(self._archive, schedule, self._progress, self._workers)
        wanting = self._work_through(schedule, self._documents.proofs(), packs, snapshots, files)
        rest = [one for one in packs if one.pack not in self._reading.examined]
        self._reading.read(rest, "structure", shown=self._level == "structure")
        manifests = self._close(snapshots, files)
        self._whole_archive(snapshots, manifests, heads)
        return self._outcome(snapshots, files, wanting, {one.pack for one in rest})

    # ---- packs and files

    def _work_through(
        self,
        schedule: Schedule,
        proofs: Proofs,
        packs: list[ExpectedPack],
        snapshots: list[Snapshot],
        files: FileProof,
    ) -> set[str]:
        """Read what is due as far as the budget goes; the packs that are due, read or not."""
        if self._level == "structure":
            self._progress.expect(len(packs), 0)
            return set()
        due, drawn = portions_of(self._level, schedule, proofs, packs, snapshots)
        files.complete = len(due) == len(drawn)
        self._expect(drawn)
        for portion in drawn:
            new = [one for one in portion.packs if one.pack not in self._reading.examined]
            self._reading.read(schedule.affordable(new, self._size), self._level)
            if portion.snapshot:
                files.prove(portion.snapshot)
        return {one.pack for portion in due for one in portion.packs}

    def _size(self, wanted: ExpectedPack) -> int:
        try:
            return self._archive.store.stat(layout.pack_name(wanted.pack)) or 0
        except DeniedError:
            return 0  # whoever reads it will say so

    def _expect(self, portions: list[Portion]) -> None:
        packs = {one.pack: self._size(one) for portion in portions for one in portion.packs}
        files = sum(one.snapshot.seal.totals.bytes for one in portions if one.snapshot)
        self._progress.expect(len(packs), sum(packs.values()) + files)

    # ---- the judgement

    def _close(self, snapshots: list[Snapshot], files: FileProof) -> set[str]:
        """Judge every snapshot; the names of their manifests."""
        closing = Closing(
            self._archive,
            self._findings.advice,
            self._findings.all,
            self._reading.objects,
            denied=self._reading.denied(),
            whole=self._scope.repository is None,
        )
        manifests = set()
        for snapshot in snapshots:
            differing = [one for one in files.differing if one.snapshot.id == snapshot.id]
            manifests.add(closing.close(snapshot, differing))
        closing.finish()
        return manifests

    def _whole_archive(
        self, snapshots: list[Snapshot], manifests: set[str], heads: Iterable[TrustedHead]
    ) -> None:
        """What is judged beside packs and snapshots."""
        check_writers(self._findings, snapshots, self._reading.writers())
        self._findings.all += contradiction_findings(
            self._archive, snapshots, append_only=self._documents.policy().append_only
        )
        self._documents.heads(heads)
        if self._scope.repository is None:
            self._documents.whole_archive(snapshots, manifests)
            self._beside()

    def _beside(self) -> None:
        """Check what stands beside the archive proper: parity sidecars and signatures."""
        archive, keys = self._archive, self.keys or self._documents.policy().keys
        self._findings.all += parity_findings(archive, deep=self.deep, progress=self._progress)
        self._findings.all += signature_findings(archive, keys)

    def _checked(self) -> tuple[str, ...]:
        if self._scope.repository is not None:
            return ()
        return ("documents", "parity") if self.deep else ("documents",)

    def _recent(self, unread: set[str]) -> int:
        """How many of the packs that were not due are whole, as far as they were looked at."""
        if self._level == "structure":
            return 0
        return sum(self._reading.examined[pack].whole for pack in unread)

    def _with_unreadable(self, findings: set[Finding]) -> set[Finding]:
        """With the folders that may not be listed, instead of what is missing because of them."""
        folders = self._archive.store.passed_over()
        hidden = {one for one in findings if any(_hides(folder, one) for folder in folders)}
        actions = self._findings.advice.make_readable()
        return (findings - hidden) | {
            Finding(
                "file-unreadable", f"{folder} cannot be listed: {why}.", folder, actions=actions
            )
            for folder, why in folders.items()
        }

    def _outcome(
        self, snapshots: list[Snapshot], files: FileProof, due: set[str], unread: set[str]
    ) -> CheckResult:
        remaining = len(due & unread)
        found = with_places(self._archive.store, self._with_unreadable(set(self._findings.all)))
        findings = sorted(found, key=_rank)
        gone = {one.path for one in findings if one.code == "seal-missing"}
        examined = tuple(self._reading.examined.values())
        states = [one.state for one in examined if one.state is not None]
        return CheckResult(
            snapshots=self._documents.named + len(gone),
            packs=len(states),
            objects=sum(state.objects for state in states),
            bytes=self._reading.bytes,
            findings=tuple(findings),
            sealed=tuple(snapshots),
            pack_results=examined,
            files=tuple(files.proven),
            remaining=remaining,
            complete=not remaining and files.complete,
            recent=self._recent(unread - due),
            checked=self._checked(),
            policy=self._documents.policy(),
        )


def _hides(folder: str, finding: Finding) -> bool:
    """Whether what seems to be missing may lie in a folder that cannot be listed."""
    if finding.code == "event-missing":
        return folder.partition("/")[0] == layout.JOURNAL
    return finding.code.endswith("-missing") and finding.path.startswith(f"{folder}/")


def _rank(one: Finding) -> tuple[bool, int, tuple[str, ...], str, str, str]:
    return one.remark, _ORDER[one.code], one.snapshots, one.path, one.pack, one.object


# ---- Reading the packs of an examination: each at most once, and what they hold gathered.


OnExamined = Callable[[PackResult], None]
"""Told of each pack as soon as it was read."""


class Reading:
    """The packs that were read or looked at so far; what is wrong with them is added to ``findings``."""

    def __init__(
        self,
        store: Store,
        advice: Advice,
        findings: list[Finding],
        progress: Progress,
        workers: int,
        told: OnExamined,
    ) -> None:
        self._store = store
        self._advice = advice
        self._findings = findings
        self._progress = progress
        self._workers = workers
        self._told = told
        self.objects = ObjectTable()
        self.examined: dict[str, PackResult] = {}
        self.bytes = 0

    def read(self, packs: Iterable[ExpectedPack], level: Level, *, shown: bool = True) -> None:
        """Read packs that were not read yet, several at a time; ``shown`` in the progress."""
        counted = partial(self._progress.advance, fetched=True)
        asked: Level = "content" if level == "files" else level
        new = (one for one in packs if one.pack not in self.examined)
        found = check_packs(self._store, new, self._workers, counted, asked)
        # Closed at once if anything interrupts: its threads must not read on behind an error.
        with closing(found) as examining:
            for examined in examining:
                self._note(examined)
                if shown:
                    self._progress.end(pack_name(examined.wanted.pack))

    def _note(self, examined: PackResult) -> None:
        wanted, state = examined.wanted, examined.state
        self.examined[wanted.pack] = examined
        self._findings += pack_findings(examined, self._advice)
        if not wanted.snapshots:
            text = f"No seal needs pack {wanted.pack}: a run was interrupted, or its seal is lost."
            name = pack_name(wanted.pack)
            self._findings.append(Finding("unsealed-pack", text, path=name, pack=wanted.pack))
        if state is not None:
            self.objects.add(wanted.pack, state.sound)
            self.objects.bad |= {one.blake3: Bad(wanted.pack, one.reason) for one in state.faults}
            self.bytes += 0 if examined.level == "structure" else state.size
        self._told(examined)

    def denied(self) -> set[str]:
        """The packs that may not be read."""
        return {pack for pack, one in self.examined.items() if one.denied}

    def writers(self) -> dict[str, str]:
        """Which archive wrote each pack that could be read."""
        states = {pack: one.state for pack, one in self.examined.items()}
        return {pack: state.archive for pack, state in states.items() if state is not None}


# ---- Files that were taken out of use, and lie in quarantine or trash still.


_MISSING: Final = {"pack-missing", "manifest-missing", "seal-missing"}


def with_places(store: Store, findings: Iterable[Finding]) -> Iterator[Finding]:
    """The findings; those of missing files say where the file was set aside, if it was."""
    aside: dict[str, str] | None = None
    for one in findings:
        if one.code not in _MISSING:
            yield one
            continue
        if aside is None:
            aside = _set_aside(store)
        name = layout.pack_name(one.pack) if one.pack else one.path
        yield msgspec.structs.replace(one, set_aside=aside.get(name, ""))


def _set_aside(store: Store) -> dict[str, str]:
    """Name before -> name now; what was put into the trash counts before quarantine."""
    found = {}
    for folder in (layout.QUARANTINE, layout.TRASH):
        for name in store.list(folder):
            before = layout.quarantined_of(name)
            if before:
                found[before.name] = name
    return found
