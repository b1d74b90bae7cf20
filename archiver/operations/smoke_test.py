"""Smoke test: run the model of a snapshot, straight from the archive, or of a folder.

Nothing but an event is written, and a golden record's file if one is asked for. The model itself runs in
a process of its own (``smoke/run.py``).
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from archiver.archive import layout
from archiver.archive.advice import command
from archiver.archive.findings import Code
from archiver.archive.places import own_place
from archiver.errors import ArchiverError, DamageError, DeniedError, SkippedError, UsageError
from archiver.names import MODEL, RepositoryName
from archiver.smoke.golden.record import read_golden_file, write_golden_file
from archiver.smoke.hardware import environment
from archiver.smoke.messages import FolderSource, Settings, SnapshotSource
from archiver.smoke.receipt import KnownGolden, Run, last_tested, newest_golden, receipt
from archiver.smoke.report import LEVELS, LevelReport, SmokeReport, up_to
from archiver.smoke.run import run
from archiver.storage.files import require_place
from archiver.text import printable, utc_before

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from archiver.archive.archive import Archive
    from archiver.archive.seals import Snapshot
    from archiver.progress import Progress
    from archiver.smoke.golden.record import Golden
    from archiver.smoke.messages import CheckpointSource
    from archiver.smoke.model import Dtype
    from archiver.smoke.report import Level

_REVISION: Final = 12
_HARMLESS: Final = frozenset[Code](
    {"model-index", "model-mtp", "model-special-token", "model-chat-template"}
)
"""Of a model with one of these alone the other levels are worth running: to accept it is proposed."""
_NO_RECORD: Final = KnownGolden(None, "", ())


@dataclass(frozen=True)
class SmokeOptions:
    """What is asked for.

    Attributes:
        level: The last level to run; None: up to ``generate``, and ``golden`` if there is a record.
        every: Insist on every level.
        record: Run every level, and keep a new golden record.
        golden: A file of a golden record to compare with; with ``record`` a new file to write it to.
        memory: Resident memory must stay below so many bytes; None: what there is.
        dtype: In which numbers to compute.
        device: ``cpu``, ``cuda`` or ``mps``; None: the best one that is there.
        workers: Threads that decode.
        on_fit: Told how the model fits into this machine before anything large is read.
        on_level: Told how each level ended, as soon as it has.
    """

    level: Level | None = None
    every: bool = False
    record: bool = False
    golden: Path | None = None
    memory: int | None = None
    dtype: Dtype = "bfloat16"
    device: str | None = None
    workers: int = 2
    on_fit: Callable[[tuple[str, ...]], None] | None = None
    on_level: Callable[[LevelReport], None] | None = None


class SmokeTest(msgspec.Struct, frozen=True):
    """A smoke test and what was kept of it.

    Attributes:
        report: What was found.
        run: In which numbers, on which device, and where the weights were, from level ``load`` on;
            level ``golden`` always takes float32.
        golden: What was compared with: the id of an event, or a file; ``""`` if nothing was.
        event: The id of the receipt in the journal; ``""`` if there is none.
        unkept: Why the receipt is not in the journal; ``""`` if it is, or belongs to none.
        recorded: Where the new golden record is: ``journal``, and the file.
        remarks: What else is worth a line.
        advice: What to do about what was found, where that is known; or ``""``.
    """

    report: SmokeReport
    run: Run
    golden: str = ""
    event: str = ""
    unkept: str = ""
    recorded: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    advice: str = ""


def smoke_test_snapshot(
    archive: Archive, snapshot: Snapshot, options: SmokeOptions, progress: Progress
) -> SmokeTest:
    """Run the model of a snapshot straight from the archive, and journal a receipt.

    Raises:
        UsageError: The options contradict each other, their file is not one, or the snapshot is a
            dataset, or holds chosen files without weights.
        DamageError: The archive is damaged; of the model nothing is known. The receipt says which
            levels were not run.
    """
    require_model(snapshot)
    origin = _Origin(archive, snapshot)
    test = _Test(options, _golden_to_compare(options, origin), progress, origin)
    source = SnapshotSource(
        os.fsencode(_root_of(archive)),
        snapshot.id,
        snapshot.seal,
        weights=origin.chosen,
        pack_folders=tuple(map(os.fsencode, archive.pack_folders.paths)),
    )
    with test.receipt_of_damage():
        return test.run(source, snapshot.title)


def require_model(snapshot: Snapshot) -> None:
    """Raise UsageError if a snapshot is of what has no model."""
    kind = RepositoryName.parse(snapshot.seal.repository).type
    if kind != MODEL:
        raise UsageError(
            f"{snapshot.title} is a {kind}: it has no model to run.",
            hint="What it holds is checked by 'archiver audit --level files'.",
        )


def smoke_test_folder(folder: Path, options: SmokeOptions, progress: Progress) -> SmokeTest:
    """Run the model in a folder.

    Raises:
        UsageError: There is no such folder, it is empty or an archive, or the options contradict each
            other.
    """
    if (folder / layout.INFO).is_file() and (folder / layout.SNAPSHOTS).is_dir():
        raise UsageError(
            f"{printable(str(folder))} is an archive, not a model.",
            hint=f"Run {command('smoke-test', str(folder), 'REPO')} to test one that it holds.",
        )
    if options.record and options.golden is None:
        raise UsageError(
            "A folder has no journal that would keep the record.",
            hint="Name a new file for it with --golden.",
        )
    test = _Test(options, _golden_to_compare(options, None), progress, None)
    return test.run(FolderSource(os.fsencode(folder)), str(folder))


def smoke_test_restored(
    folder: Path, archive: Archive, snapshot: Snapshot, options: SmokeOptions, progress: Progress
) -> SmokeTest:
    """Run the model that was restored into a folder, and journal a receipt of its snapshot.

    Of the folder only the files of the snapshot are looked at: others may lie beside them.

    Raises:
        UsageError: There is no such folder, the options contradict each other, or the snapshot is a
            dataset, or holds chosen files without weights.
        DamageError: The snapshot's manifest is damaged, or a file was changed meanwhile.
    """
    require_model(snapshot)
    origin = _Origin(archive, snapshot, restored=True)
    paths = tuple(entry.path for entry in archive.manifest(snapshot.seal).files)
    test = _Test(options, _golden_to_compare(options, origin), progress, origin)
    source = FolderSource(os.fsencode(folder), only=paths, weights=origin.chosen)
    return test.run(source, str(folder))


def next_due(
    archive: Archive, repository: str | None, revision: str | None, age: float | None
) -> Snapshot | None:
    """Return the snapshot whose last test is oldest, whatever it came to; None if nothing is due.

    One that was never tested comes first, ties go by name. So one that always fails has its turn like
    any other, and keeps none from theirs. With ``age``, in seconds, those have no turn whose test held
    within it; one that failed since is still due. Without a repository only whole snapshots are looked
    at: chosen files are no model.

    Raises:
        UsageError: There is no such snapshot.
        DamageError: A seal is damaged.
    """
    if repository:
        snapshots = archive.fitting(repository, revision)
    else:
        snapshots = [snapshot for snapshot in archive.snapshots() if snapshot.should_run]
    tested = last_tested(archive, snapshots, own_place(archive))
    since = None if age is None else utc_before(age)
    due = [
        snapshot for snapshot in snapshots if since is None or not tested[snapshot.id].proves(since)
    ]
    return min(due, key=lambda snapshot: (tested[snapshot.id].tried, snapshot.name), default=None)


def _golden_to_compare(options: SmokeOptions, origin: _Origin | None) -> KnownGolden:
    """Return the golden record to compare with, after a look whether the options can be meant."""
    if options.record and (options.level or "golden") != "golden":
        raise UsageError(f"--record runs every level, not only those up to {options.level}.")
    if options.every and options.level:
        raise UsageError("--all runs every level: it goes without --level.")
    if options.golden is not None and (options.level or "golden") != "golden":
        raise UsageError(
            f"--golden is for level golden, and --level {options.level} ends before it."
        )
    if options.golden is not None and options.record:
        require_place(options.golden)
    elif options.golden is not None:
        return KnownGolden(read_golden_file(options.golden), str(options.golden), ())
    elif origin is not None and not options.record:
        return newest_golden(origin.archive, origin.snapshot)
    return _NO_RECORD


def _root_of(archive: Archive) -> Path:
    """Return the archive's folder: the process that runs the model opens it by itself."""
    if archive.store.folder is None:
        raise SkippedError("A model runs straight from an archive in a local folder only.")
    return archive.store.folder.path


class _Origin(NamedTuple):
    """Which snapshot of which archive is tested, and whether a folder is read that was restored from it."""

    archive: Archive
    snapshot: Snapshot
    restored: bool = False

    @property
    def chosen(self) -> bool:
        """Whether it holds chosen files only, so that weights may be none of them."""
        return self.snapshot.seal.selection.chosen

    def journal(
        self, report: SmokeReport, how: Run, golden: Golden | None = None
    ) -> tuple[str, str]:
        """Return the id of the receipt, or why there is none: a read-only archive is tested too."""
        try:
            self.archive.require_writable()
            event = receipt(
                self.archive, self.snapshot, report, how, restored=self.restored, golden=golden
            )
            return self.archive.record(event), ""
        except DeniedError:
            return "", f"{self.archive.store.address} cannot be written to."
        except ArchiverError as error:
            return "", error.message

    def remarks(self) -> tuple[str, ...]:
        """Return that files may be missing because they were left out on purpose."""
        if self.chosen:
            chosen = (
                "This snapshot holds chosen files only (--include or --exclude): "
                "what is missing may just not have been mirrored."
            )
            return (chosen,)
        if not self.snapshot.seal.selection.known:
            unknown = (
                "This snapshot comes from a cache without a record of the revision's files: "
                "what is missing may just not have been downloaded."
            )
            return (unknown,)
        return ()


class _Acceptance(NamedTuple):
    """The codes that the policy accepts; ``remark`` says why none are where it cannot be read."""

    codes: frozenset[str]
    remark: str = ""


def _accepted_of(origin: _Origin | None) -> _Acceptance:
    """Return what is accepted of a snapshot; nothing of a folder that comes from no archive."""
    if origin is None:
        return _Acceptance(frozenset())
    try:
        policy = origin.archive.policy()
    except DamageError as error:
        return _Acceptance(frozenset(), f"{error.message} So nothing is accepted by it.")
    seal = origin.snapshot.seal
    return _Acceptance(policy.codes_accepted_of(seal.repository, seal.revision))


def _advice(origin: _Origin | None, report: SmokeReport, acceptance: _Acceptance) -> str:
    """Return how to end the alarm, where nothing failed but what may be accepted; or why it goes on."""
    failed = sorted({finding.code for finding in report.findings if not finding.remark})
    if origin is None or not failed:
        return ""
    if acceptance.codes.issuperset(failed):
        codes = ", ".join(failed)
        return f"The policy accepts {codes}, but a level that cannot go on fails all the same."
    if not _HARMLESS.issuperset(failed):
        return ""
    seal = origin.snapshot.seal
    at = f"{seal.repository}@{seal.revision[:_REVISION]}"
    words = [word for code in failed for word in ("--accept", f"{at}:{code}")]
    accept = command("policy set", origin.archive.store.address, *words)
    return f"If upstream published it so, {accept} accepts it, and later tests go on."


class _Test:
    """A test of a checkpoint, which comes from ``origin`` or from no archive."""

    def __init__(
        self, options: SmokeOptions, known: KnownGolden, progress: Progress, origin: _Origin | None
    ) -> None:
        self._options, self._known = options, known
        self._progress, self._origin = progress, origin
        self._acceptance = _accepted_of(origin)
        self._ended: list[LevelReport] = []

    def run(self, source: CheckpointSource, title: str) -> SmokeTest:
        """Run the levels, then keep what is to be kept."""
        report, recorded = run(
            source,
            title,
            self._levels(),
            self._settings(),
            self._progress,
            self._options.on_fit,
            self._on_level,
        )
        return self._keep(report, recorded if report.held else None)

    @contextmanager
    def receipt_of_damage(self) -> Iterator[None]:
        """In the block, damage of the archive leaves a receipt too: of what was not shown.

        Else the snapshot would be the one never tested, and have its turn again and again.
        """
        try:
            yield
        except DamageError as error:
            if self._origin is not None:
                left = self._levels()[len(self._ended) :]
                unrun = [LevelReport(level, "skipped", 0.0, reason=error.message) for level in left]
                report = SmokeReport("", (*self._ended, *unrun), environment=environment())
                self._origin.journal(report, self._how(report))
            raise

    def _on_level(self, level: LevelReport) -> None:
        self._ended.append(level)
        if self._options.on_level is not None:
            self._options.on_level(level)

    def _keep(self, report: SmokeReport, recorded: Golden | None) -> SmokeTest:
        event = unkept = ""
        if self._origin is not None:
            event, unkept = self._origin.journal(report, self._how(report), recorded)
        return SmokeTest(
            report,
            self._how(report),
            golden=self._known.event if "golden" in self._levels() else "",
            event=event,
            unkept=unkept,
            recorded=self._recorded(recorded, event),
            remarks=(
                *(self._origin.remarks() if self._origin else ()),
                *self._known.remarks,
                *((self._acceptance.remark,) if self._acceptance.remark else ()),
            ),
            advice=_advice(self._origin, report, self._acceptance),
        )

    def _levels(self) -> tuple[Level, ...]:
        if self._options.level:
            return up_to(self._options.level)
        every = self._options.every or self._options.record or self._known.golden is not None
        return LEVELS if every else up_to("generate")

    def _settings(self) -> Settings:
        options = self._options
        return Settings(
            memory=options.memory,
            dtype=options.dtype,
            device=options.device,
            golden=self._known.golden if "golden" in self._levels() else None,
            record=options.record,
            workers=options.workers,
            accepted=self._acceptance.codes,
        )

    def _how(self, report: SmokeReport) -> Run:
        """As level ``load`` built the model: level ``golden`` has one of its own in its place."""
        for level in report.levels:
            if level.level == "load" and "mode" in level.facts:
                facts = level.facts
                return Run(facts["dtype"], facts["device"], facts["mode"])
        return Run(self._options.dtype, self._options.device or "", "")

    def _recorded(self, golden: Golden | None, event: str) -> tuple[str, ...]:
        if golden is None:
            return ()
        if self._options.golden is not None:
            write_golden_file(self._options.golden, golden)
        file = [str(self._options.golden)] if self._options.golden else []
        return (*(["journal"] if event else []), *file)
