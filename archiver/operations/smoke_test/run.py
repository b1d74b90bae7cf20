"""One smoke test: what is run, compared with and kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from archiver.errors import ArchiverError, UsageError
from archiver.operations.smoke_test.records import SmokeOptions, SmokeTest
from archiver.smoke.checkpoint.archived import ArchivedCheckpoint
from archiver.smoke.checkpoint.folder import FolderCheckpoint
from archiver.smoke.checkpoint.model_files import model_files
from archiver.smoke.golden.file import read_golden_file, write_golden_file
from archiver.smoke.levels import LEVELS, up_to
from archiver.smoke.receipt import Known, Run, newest_golden, receipt
from archiver.smoke.trial import Wishes
from archiver.storage.new_file import require_absent

if TYPE_CHECKING:
    from pathlib import Path

    from archiver.archive.archive import Archive, Snapshot
    from archiver.progress import Progress
    from archiver.smoke.checkpoint.protocol import Checkpoint
    from archiver.smoke.golden.record import Golden
    from archiver.smoke.levels import Level
    from archiver.smoke.report import SmokeReport


_NO_RECORD: Final = Known(None, "", ())


def smoke_test_snapshot(
    archive: Archive, snapshot: Snapshot, options: SmokeOptions, progress: Progress
) -> SmokeTest:
    """Run the model of a snapshot straight from the archive, and journal a receipt.

    Raises:
        UsageError: The options contradict each other, their file is not one, or the snapshot holds
            chosen files without weights.
        DamageError: The archive is damaged; of the model nothing is known.
    """
    known = _known(options, archive, snapshot)
    checkpoint = ArchivedCheckpoint(archive, snapshot, workers=options.workers)
    if not snapshot.seal.selection.whole and not model_files(checkpoint):
        checkpoint.close()
        raise UsageError(
            f"{snapshot.title} holds chosen files only (--include or --exclude), and no weights.",
            hint="Mirror the whole revision to test it.",
        )
    return _SmokeTest(options, known, progress).run(checkpoint, archive, snapshot)


def smoke_test_folder(
    folder: Path,
    options: SmokeOptions,
    progress: Progress,
    *,
    restored: tuple[Archive, Snapshot] | None = None,
) -> SmokeTest:
    """Run the model in a folder.

    With ``restored``, the snapshot that was written there, its golden record counts, and the receipt
    goes into its archive's journal.

    Raises:
        UsageError: There is no such folder, it is empty, or the options contradict each other.
    """
    if restored is None and options.record and options.golden is None:
        raise UsageError(
            "A folder has no journal that would keep the record.",
            hint="Name a new file for it with --golden.",
        )
    known = _known(options, *(restored or (None, None)))
    return _SmokeTest(options, known, progress).run(
        FolderCheckpoint(folder, workers=options.workers),
        *(restored or (None, None)),
        restored=restored is not None,
    )


def _known(options: SmokeOptions, archive: Archive | None, snapshot: Snapshot | None) -> Known:
    """The golden record to compare with, after a look whether the options can be meant."""
    if options.record and (options.level or "golden") != "golden":
        raise UsageError(f"--record runs every level, not only those up to {options.level}.")
    if options.every and options.level:
        raise UsageError("--all runs every level: it goes without --level.")
    if options.golden is not None and options.record:
        require_absent(options.golden)
    elif options.golden is not None:
        return Known(read_golden_file(options.golden), str(options.golden), ())
    elif archive is not None and snapshot is not None and not options.record:
        return newest_golden(archive, snapshot)
    return _NO_RECORD


class _SmokeTest:
    """One test."""

    def __init__(self, options: SmokeOptions, known: Known, progress: Progress) -> None:
        self._options = options
        self._known = known
        self._progress = progress

    def run(
        self,
        checkpoint: Checkpoint,
        archive: Archive | None,
        snapshot: Snapshot | None,
        *,
        restored: bool = False,
    ) -> SmokeTest:
        """Run the levels, then keep what is to be kept."""
        from archiver.smoke.run import run  # noqa: PLC0415 - the levels are not needed for a look

        try:
            report, trial = run(
                checkpoint,
                self._levels(),
                self._wishes(),
                self._progress,
                self._options.on_fit,
                self._options.on_level,
            )
        finally:
            checkpoint.close()
        golden = trial.recorded if report.held else None
        event = unkept = ""
        if archive is not None and snapshot is not None:
            event, unkept = _journal(
                archive, snapshot, report, self._run(report), restored=restored, golden=golden
            )
        return SmokeTest(
            report,
            self._run(report),
            golden=self._known.event if "golden" in self._levels() else "",
            event=event,
            unkept=unkept,
            recorded=self._recorded(golden, event),
            remarks=(*_chosen(snapshot), *self._known.remarks),
        )

    def _levels(self) -> tuple[Level, ...]:
        if self._options.level:
            return up_to(self._options.level)
        wanted = self._options.every or self._options.record or self._known.golden is not None
        return LEVELS if wanted else up_to("generate")

    def _wishes(self) -> Wishes:
        options = self._options
        return Wishes(
            memory=options.memory,
            dtype=options.dtype,
            device=options.device,
            golden=self._known.golden if "golden" in self._levels() else None,
            record=options.record,
            workers=options.workers,
        )

    def _run(self, report: SmokeReport) -> Run:
        """As level ``load`` built the model: level ``golden`` has one of its own in its place."""
        for one in report.levels:
            if one.level == "load" and "mode" in one.facts:
                return Run(one.facts["dtype"], one.facts["device"], one.facts["mode"])
        return Run(self._options.dtype, self._options.device or "", "")

    def _recorded(self, golden: Golden | None, event: str) -> tuple[str, ...]:
        if golden is None:
            return ()
        if self._options.golden is not None:
            write_golden_file(self._options.golden, golden)
        file = [str(self._options.golden)] if self._options.golden else []
        return (*(["journal"] if event else []), *file)


def _chosen(snapshot: Snapshot | None) -> tuple[str, ...]:
    """That files may be missing because they were left out on purpose."""
    if snapshot is None or snapshot.seal.selection.whole:
        return ()
    return (
        (
            "This snapshot holds chosen files only (--include or --exclude): "
            "what is missing may just not have been mirrored."
        ),
    )


def _journal(
    archive: Archive,
    snapshot: Snapshot,
    report: SmokeReport,
    run: Run,
    *,
    restored: bool,
    golden: Golden | None,
) -> tuple[str, str]:
    """The id of the receipt, or why there is none: an archive on a read-only medium is tested too."""
    try:
        archive.require_writable()
        event = receipt(archive, snapshot, report, run, restored=restored, golden=golden)
        return archive.record(event), ""
    except ArchiverError as error:
        return "", error.message
