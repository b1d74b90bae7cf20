"""The small files: archive.json, seals, manifests, events, and what explains the archive.

They come first in a repair, because only they say which packs and objects are needed at all.
"""

from __future__ import annotations

from contextlib import closing, suppress
from typing import TYPE_CHECKING, Final

from archiver.archive import archive, layout
from archiver.archive.check.documents import repeated_info
from archiver.archive.parity.sidecar import read_sidecar
from archiver.archive.quarantine import quarantined_names
from archiver.archive.records import info_file
from archiver.archive.repair.reseal import seal_again
from archiver.archive.repair.stored_files import RepairedFile
from archiver.errors import ArchiverError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from archiver.archive.archive import Archive
    from archiver.archive.check.result import CheckResult
    from archiver.archive.findings import Finding
    from archiver.archive.repair.stored_files import FileRepair
    from archiver.archive.seals import Snapshot
    from archiver.storage.store import Store

_EVENT_ID_CODES: Final = {"event-missing", "head-missing"}
JOURNAL_CODES: Final = {"event-damaged", *_EVENT_ID_CODES}
"""The codes of what is wrong with the journal."""
SEAL_CODES: Final = {"seal-missing", "seal-damaged"}
_BY_MANIFEST: Final = "its manifest"
"""The source of a seal that is made anew."""
_NAMED_CODES: Final = {
    "seal-missing",
    "seal-damaged",
    "manifest-missing",
    "manifest-damaged",
    "event-damaged",
}
_INFO_CODES: Final = {"archive-json-missing", "archive-json-damaged"}


class DocumentRepair:
    """Repairs the documents that findings name."""

    def __init__(self, archive: Archive, replicas: Sequence[Archive], files: FileRepair) -> None:
        """Take what the name of a document demands from ``files``, the rest from ``replicas``."""
        self._archive = archive
        self._replicas = replicas
        self._files = files

    def repair(self, check: CheckResult) -> dict[Finding, RepairedFile]:
        """Repair what can be, and return it by the finding that told of it.

        Nothing else is repaired while the journal can be: its events say which seals were taken out of
        use and are not missing at all.
        """
        journal = [each for each in check.findings if each.code in JOURNAL_CODES]
        rest = [each for each in check.findings if each.code not in JOURNAL_CODES]
        return self._repair_all(journal, check) or self._repair_all(rest, check)

    def _repair_all(
        self, findings: Iterable[Finding], check: CheckResult
    ) -> dict[Finding, RepairedFile]:
        attempts = ((finding, self._repair(finding, check)) for finding in findings)
        return {finding: file for finding, file in attempts if file is not None}

    def _repair(self, finding: Finding, check: CheckResult) -> RepairedFile | None:
        code, name = finding.code, finding.path
        if code in _NAMED_CODES and layout.digest_of(name) is not None:
            return self._files.repair(name) or self._seal_anew(finding)
        if code in _EVENT_ID_CODES:
            names = self._event_names(finding.object)
            return next(filter(None, map(self._files.repair, names)), None)
        if code in _INFO_CODES:
            return self._repair_info(check)
        if code == "carried-missing":
            return self._files.put(
                name, dict(archive.carried_files())[name], "this version of archiver"
            )
        return None

    def _seal_anew(self, finding: Finding) -> RepairedFile | None:
        """Make a new seal for one that nobody has whole, if its manifest and all its objects are here."""
        lost = layout.document_of(finding.path)
        if lost is None or finding.code not in SEAL_CODES:
            return None
        folder = finding.path.rpartition("/")[0]
        for unsealed in self._archive.unsealed():
            if unsealed.seal.revision != lost.revision or _folder_of(unsealed) != folder:
                continue
            if self._files.dry_run:
                return RepairedFile(finding.path, _BY_MANIFEST)
            snapshot = seal_again(self._archive, unsealed)
            if snapshot is not None:
                return RepairedFile(finding.path, _BY_MANIFEST, (snapshot.name,))
        return None

    def _event_names(self, digest: str) -> Iterator[str]:
        """Return the names that the event with this id has, or had, here and in the replicas."""
        stores = [self._archive.store, *(replica.store for replica in self._replicas)]
        yield from dict.fromkeys(
            name
            for store in stores
            for name in _known_names(store, digest)
            if layout.event_of(name) == digest
        )

    def _repair_info(self, check: CheckResult) -> RepairedFile | None:
        """Take a replica's archive.json, if it is of this archive; else what the seals repeat."""
        repeated = repeated_info(check.sealed)
        if repeated is None:
            return None
        for replica in self._replicas:
            info = replica.info
            if info.archive == repeated.archive:
                title = replica.store.address
                return self._files.put(layout.INFO, info_file(info), title)
        return self._files.put(layout.INFO, info_file(repeated), "the seals")


def _folder_of(snapshot: Snapshot) -> str:
    """Return the folder that the seal of a snapshot lies in."""
    return snapshot.name.rpartition("/")[0]


def _known_names(store: Store, digest: str) -> Iterable[str]:
    """Return names that events have, or had; a sidecar tells the name of the event that it protects."""
    yield from store.list(layout.JOURNAL)
    with suppress(ArchiverError, FileNotFoundError):
        sidecar = layout.parity_name(digest)
        with closing(store.open(sidecar)) as reader:
            yield read_sidecar(reader, sidecar).header.file
    for copy in quarantined_names(store):
        before = layout.quarantined_of(copy)
        if before is not None:
            yield before.name
