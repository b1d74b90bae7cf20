"""Which snapshot of which archive is tested: what its policy accepts, and where the receipt goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from archiver.errors import ArchiverError, DeniedError
from archiver.smoke.receipt import receipt

if TYPE_CHECKING:
    from archiver.archive.archive import Archive
    from archiver.archive.seals import Snapshot
    from archiver.smoke.golden.record import Golden
    from archiver.smoke.receipt import Run
    from archiver.smoke.report import SmokeReport


class Origin(NamedTuple):
    """A snapshot, its archive, and whether a folder is read that was restored from it."""

    archive: Archive
    snapshot: Snapshot
    restored: bool = False

    def journal(
        self, report: SmokeReport, run: Run, golden: Golden | None = None
    ) -> tuple[str, str]:
        """The id of the receipt, or why there is none: an archive on a read-only medium is tested too."""
        try:
            self.archive.require_writable()
            event = receipt(
                self.archive, self.snapshot, report, run, restored=self.restored, golden=golden
            )
            return self.archive.record(event), ""
        except DeniedError:
            return "", f"{self.archive.store.describe()} cannot be written to."
        except ArchiverError as error:
            return "", error.message

    def remarks(self) -> tuple[str, ...]:
        """That files may be missing because they were left out on purpose."""
        selection = self.snapshot.seal.selection
        if selection.chosen:
            told = (
                "This snapshot holds chosen files only (--include or --exclude): "
                "what is missing may just not have been mirrored."
            )
            return (told,)
        if not selection.known:
            told = (
                "This snapshot comes from a cache without a record of the revision's files: "
                "what is missing may just not have been downloaded."
            )
            return (told,)
        return ()
