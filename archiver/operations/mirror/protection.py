"""Parity for what a run has sealed, where the policy wants it. The seal stands whatever comes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from archiver.archive.parity.protect import protect
from archiver.archive.parity.wanted import names_of, without_sidecar
from archiver.errors import ArchiverError
from archiver.operations.mirror.report import FileFailure

if TYPE_CHECKING:
    from archiver.archive.archive import Archive, Snapshot


class Protection(NamedTuple):
    """What the new sidecars take, in bytes, and the files that got none."""

    parity_bytes: int = 0
    failures: tuple[FileFailure, ...] = ()


def protect_sealed(archive: Archive, snapshot: Snapshot, workers: int) -> Protection:
    """Protect the snapshot's files, and the journal's, that have no sidecar; raises nothing of its own."""
    try:
        policy = archive.policy()
        if not policy.parity:
            return Protection()
        names = names_of([snapshot]).union(archive.journal.names())
        done = protect(
            archive,
            without_sidecar(archive.store, names),
            parity=policy.parity,
            group=policy.parity_group,
            workers=workers,
            progress=_Unheard(),
        )
    except ArchiverError as error:
        whole = FileFailure("all of it", error.message, error.hint, int(error.exit_code))
        return Protection(0, (whole,))
    failures = (FileFailure(one.file, one.reason, one.hint, one.exit_code) for one in done.failures)
    return Protection(done.parity_bytes, tuple(failures))


class _Unheard:
    """The run's own progress has been told of every byte already."""

    def phase(self, verb: str) -> None:
        """Nothing is shown."""

    def expect(self, files: int, size: int) -> None:
        """Nothing is shown."""

    def begin(self, path: str, size: int) -> None:
        """Nothing is shown."""

    def advance(self, count: int, *, fetched: bool) -> None:
        """Nothing is shown."""

    def rewind(self, count: int) -> None:
        """Nothing is shown."""

    def stored(self, plain: int, stored: int) -> None:
        """Nothing is shown."""

    def end(self, path: str) -> None:
        """Nothing is shown."""
