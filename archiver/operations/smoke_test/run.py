"""What may be tested: a snapshot, straight from the archive, or a folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from archiver.archive import layout
from archiver.archive.advice import command
from archiver.errors import UsageError
from archiver.operations.smoke_test.one_test import OneTest
from archiver.operations.smoke_test.origin import Origin
from archiver.smoke.checkpoint.archived import ArchivedCheckpoint
from archiver.smoke.checkpoint.folder import FolderCheckpoint
from archiver.smoke.checkpoint.model_files import model_files
from archiver.smoke.golden.file import read_golden_file
from archiver.smoke.receipt import Known, newest_golden
from archiver.storage.files import require_place
from archiver.text import printable

if TYPE_CHECKING:
    from pathlib import Path

    from archiver.archive.archive import Archive
    from archiver.archive.seals import Snapshot
    from archiver.operations.smoke_test.records import SmokeOptions, SmokeTest
    from archiver.progress import Progress
    from archiver.smoke.checkpoint.protocol import Checkpoint

_NO_RECORD: Final = Known(None, "", ())


def smoke_test_snapshot(
    archive: Archive, snapshot: Snapshot, options: SmokeOptions, progress: Progress
) -> SmokeTest:
    """Run the model of a snapshot straight from the archive, and journal a receipt.

    Raises:
        UsageError: The options contradict each other, their file is not one, or the snapshot holds
            chosen files without weights.
        DamageError: The archive is damaged; of the model nothing is known. The receipt says which
            levels were not run.
    """
    origin = Origin(archive, snapshot)
    test = OneTest(options, _known(options, origin), progress, origin)
    with test.noting_damage():
        checkpoint = ArchivedCheckpoint(archive, snapshot, workers=options.workers)
        _require_weights(checkpoint, snapshot)
        return test.run(checkpoint)


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
    test = OneTest(options, _known(options, None), progress, None)
    return test.run(FolderCheckpoint(folder, workers=options.workers))


def smoke_test_restored(
    folder: Path, archive: Archive, snapshot: Snapshot, options: SmokeOptions, progress: Progress
) -> SmokeTest:
    """Run the model that was restored into a folder, and journal a receipt of its snapshot.

    Of the folder only the files of the snapshot are looked at: others may lie beside them.

    Raises:
        UsageError: There is no such folder, the options contradict each other, or the snapshot holds
            chosen files without weights.
        DamageError: The snapshot's manifest is damaged, or a file was changed meanwhile.
    """
    origin = Origin(archive, snapshot, restored=True)
    paths = {entry.path for entry in archive.manifest(snapshot.seal).files}
    test = OneTest(options, _known(options, origin), progress, origin)
    checkpoint = FolderCheckpoint(folder, workers=options.workers, only=paths)
    _require_weights(checkpoint, snapshot)
    return test.run(checkpoint)


def _require_weights(checkpoint: Checkpoint, snapshot: Snapshot) -> None:
    if snapshot.seal.selection.chosen and not model_files(checkpoint):
        checkpoint.close()
        raise UsageError(
            f"{snapshot.title} holds chosen files only (--include or --exclude), and no weights.",
            hint="Mirror the whole revision to test it.",
        )


def _known(options: SmokeOptions, origin: Origin | None) -> Known:
    """The golden record to compare with, after a look whether the options can be meant."""
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
        return Known(read_golden_file(options.golden), str(options.golden), ())
    elif origin is not None and not options.record:
        return newest_golden(origin.archive, origin.snapshot)
    return _NO_RECORD
