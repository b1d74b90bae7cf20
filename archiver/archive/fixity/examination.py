"""Examining an archive: whether it holds what its seals say, and everything that it does not.

Reading goes seals, packs, manifests. Every pack is read once, front to back; several are read at a
time. Memory is a few buffers a thread and 32 bytes an object. Nothing is written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, get_args

import msgspec

from archiver.archive import layout
from archiver.archive.advice import Advice
from archiver.archive.archive import Archive, Snapshot
from archiver.archive.finding import FILES, Code, Finding
from archiver.archive.fixity.aside import with_places
from archiver.archive.fixity.closing import Closing
from archiver.archive.fixity.document_check import DocumentCheck
from archiver.archive.fixity.extras import extra_findings
from archiver.archive.fixity.file_proof import FileProof
from archiver.archive.fixity.level import proves
from archiver.archive.fixity.pack_audit import Examined
from archiver.archive.fixity.portion import others, packs_of, portions_of
from archiver.archive.fixity.proof import Proofs, proofs_of, readable_events
from archiver.archive.fixity.reading import OnExamined, Reading
from archiver.archive.fixity.schedule import UNLIMITED, Limits, Schedule
from archiver.archive.place import own_place
from archiver.archive.policy import EVENT as POLICY
from archiver.archive.policy import Policy, policy_of
from archiver.errors import ArchiverError
from archiver.names import RepoId, slug
from archiver.text import utc_now

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from archiver.archive.fixity.pack_audit import Wanted
    from archiver.archive.fixity.portion import Portion
    from archiver.archive.policy import Level
    from archiver.archive.records import Event
    from archiver.progress import Progress

_ORDER: Final = {code: number for number, code in enumerate(get_args(Code))}


class Examination(msgspec.Struct, frozen=True):
    """What was read and found.

    Attributes:
        snapshots: How many are known to belong here, whether their seals are whole or not.
        packs: How many could be read, or be looked at.
        objects: How many lie in them.
        bytes: How many were read from packs.
        findings: Everything that is not as it should be, remarks last.
        sealed: The snapshots whose seals are whole.
        examined: What came out of reading, or looking at, each pack.
        files: The ids of the snapshots whose files were all made and hashed.
        remaining: How many packs have no recent proof and were not read this time.
        complete: Whether no pack and no file remains.
        recent: How many packs have a recent proof, look whole, and were not read for that reason.
        checked: Of what else all of the archive was checked: ``documents``, ``parity``.
        policy: What the journal says is wanted; the defaults if that cannot be understood.
    """

    snapshots: int
    packs: int
    objects: int
    bytes: int
    findings: tuple[Finding, ...]
    sealed: tuple[Snapshot, ...] = ()
    examined: tuple[Examined, ...] = ()
    files: tuple[str, ...] = ()
    remaining: int = 0
    complete: bool = True
    recent: int = 0
    checked: tuple[str, ...] = ()
    policy: Policy = Policy()

    @property
    def damaged_files(self) -> list[str]:
        """The names of the stored files, other than packs, that are damaged or gone."""
        return sorted({one.path for one in self.findings if one.code in FILES and one.path})


class Scope(NamedTuple):
    """What of the archive is examined: all, or one repository and (beginning of a) revision."""

    repository: str | None
    revision: str


def examine(
    archive: Archive,
    *,
    repository: str | None = None,
    revision: str | None = None,
    workers: int,
    progress: Progress,
    level: Level = "content",
    limits: Limits = UNLIMITED,
    heads: Iterable[str] = (),
    keys: Sequence[str] = (),
    on_examined: OnExamined = lambda _examined: None,
) -> Examination:
    """Check the whole archive, or the snapshots of one repository and (beginning of a) revision.

    What the limits keep from being read is looked at by structure. ``heads`` are ids of events that
    must be in the journal; ``keys``, if there are any, are trusted instead of the policy's. Raises
    UsageError if there is no such snapshot, or a key is none.
    """
    run = _Run(archive, Scope(repository, revision or ""), level, workers, progress, on_examined)
    run.deep = proves(level, "stored") and limits == UNLIMITED
    run.keys = keys
    return run.run(Schedule(limits), heads)


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
        self._documents = DocumentCheck(archive)
        self._findings = self._documents.findings
        self._advice = Advice(archive.store.describe())
        self._reading = Reading(
            archive.store, self._advice, self._findings, progress, workers, told
        )
        self._policies: list[tuple[str, Event]] = []
        self.deep = False
        """Whether sidecars are read whole."""
        self.keys: Sequence[str] = ()
        """The keys that are trusted instead of the policy's."""

    def run(self, schedule: Schedule, heads: Iterable[str]) -> Examination:
        """Read what is due, look at the rest, and judge."""
        snapshots = self._snapshots()
        self._documents.info(snapshots)
        packs = packs_of(snapshots)
        if self._scope.repository is None:
            packs += others(self._archive, packs)
        files = FileProof(self._archive, schedule, self._progress, self._workers)
        wanting = self._work_through(schedule, self._proofs(), packs, snapshots, files)
        rest = [one for one in packs if one.pack not in self._reading.examined]
        self._reading.read(rest, "structure", shown=self._level == "structure")
        manifests = self._close(snapshots, files)
        self._whole_archive(snapshots, manifests, heads)
        return self._outcome(snapshots, files, wanting, {one.pack for one in rest})

    # ---- what there is to read

    def _proofs(self) -> Proofs:
        whole = self._scope.repository is None
        events = self._documents.journal() if whole else readable_events(self._archive.journal)
        return proofs_of(self._noted(events), utc_now(), own_place(self._archive))

    def _noted(self, events: Iterable[tuple[str, Event]]) -> Iterator[tuple[str, Event]]:
        """The events; those of the policy are kept."""
        for one in events:
            if one[1].event == POLICY:
                self._policies.append(one)
            yield one

    def _snapshots(self) -> list[Snapshot]:
        repository, revision = self._scope
        if repository is None:
            return list(self._documents.seals(layout.SNAPSHOTS))
        below = f"{layout.SNAPSHOTS}/{slug(RepoId(repository))}"
        found = self._documents.seals(below, revision)
        wanted = repository.casefold()
        chosen = [one for one in found if one.seal.repository.casefold() == wanted]
        if not chosen and not self._findings:
            self._archive.find(repository, revision)  # says what is held instead
        return chosen

    # ---- packs and files

    def _work_through(
        self,
        schedule: Schedule,
        proofs: Proofs,
        packs: list[Wanted],
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

    def _size(self, wanted: Wanted) -> int:
        return self._archive.store.stat(layout.pack_name(wanted.pack)) or 0

    def _expect(self, portions: list[Portion]) -> None:
        packs = {one.pack: self._size(one) for portion in portions for one in portion.packs}
        files = sum(one.snapshot.seal.totals.bytes for one in portions if one.snapshot)
        self._progress.expect(len(packs), sum(packs.values()) + files)

    # ---- the judgement

    def _close(self, snapshots: list[Snapshot], files: FileProof) -> set[str]:
        """Judge every snapshot; the names of their manifests."""
        closing = Closing(
            self._archive,
            self._advice,
            self._findings,
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
        self, snapshots: list[Snapshot], manifests: set[str], heads: Iterable[str]
    ) -> None:
        """What is judged beside packs and snapshots."""
        self._documents.foreign(snapshots, self._reading.writers())
        self._documents.heads(heads)
        if self._scope.repository is None:
            self._documents.events(snapshots)
            self._documents.explanations()
            self._documents.place()
            self._documents.leftovers(manifests)
            self._findings += extra_findings(
                self._archive,
                self.keys or self._policy().keys,
                deep=self.deep,
                progress=self._progress,
            )

    def _policy(self) -> Policy:
        try:
            return policy_of(self._policies)
        except ArchiverError:
            return Policy()  # whoever asks for it is told

    def _checked(self) -> tuple[str, ...]:
        if self._scope.repository is not None:
            return ()
        return ("documents", "parity") if self.deep else ("documents",)

    def _recent(self, unread: set[str]) -> int:
        """How many of the packs that were not due are whole, as far as they were looked at."""
        if self._level == "structure":
            return 0
        return sum(self._reading.examined[pack].whole for pack in unread)

    def _outcome(
        self, snapshots: list[Snapshot], files: FileProof, due: set[str], unread: set[str]
    ) -> Examination:
        remaining = len(due & unread)
        found = with_places(self._archive.store, set(self._findings))
        findings = sorted(found, key=_rank)
        gone = {one.path for one in findings if one.code == "seal-missing"}
        examined = tuple(self._reading.examined.values())
        states = [one.state for one in examined if one.state is not None]
        return Examination(
            snapshots=self._documents.named + len(gone),
            packs=len(states),
            objects=sum(state.objects for state in states),
            bytes=self._reading.bytes,
            findings=tuple(findings),
            sealed=tuple(snapshots),
            examined=examined,
            files=tuple(files.proven),
            remaining=remaining,
            complete=not remaining and files.complete,
            recent=self._recent(unread - due),
            checked=self._checked(),
            policy=self._policy(),
        )


def _rank(one: Finding) -> tuple[bool, int, str, str, str, str]:
    return one.remark, _ORDER[one.code], one.snapshot, one.path, one.pack, one.object
