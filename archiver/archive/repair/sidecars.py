"""What stands beside the archive proper: parity sidecars and signatures.

They come last in a repair, because a sidecar is made anew from the file that it protects, which must be
whole by then.
"""

from __future__ import annotations

from contextlib import closing
from functools import cached_property
from typing import TYPE_CHECKING, Final

from archiver.archive import layout
from archiver.archive.check.sidecars import needed_digests, signature_findings
from archiver.archive.parity.coverage import without_sidecar
from archiver.archive.parity.protect import protect
from archiver.archive.parity.sidecar import PARITY_DEFAULT, read_sidecar
from archiver.archive.quarantine import link_to_quarantine, move_to_quarantine
from archiver.archive.repair.objects import THIS_ARCHIVE
from archiver.archive.repair.stored_files import FileRepair, RepairedFile
from archiver.archive.signing.minisign import FILE_MAX
from archiver.archive.signing.signatures import stored_signature
from archiver.errors import ArchiverError, NoSpaceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from archiver.archive.archive import Archive
    from archiver.archive.findings import Finding
    from archiver.progress import Progress

PROTECTED_FILE: Final = "the file that it protects"
"""The source of a sidecar that is made anew."""


class SidecarRepair:
    """Repairs damaged sidecars and signatures; to be used once the files that they are for are whole."""

    def __init__(
        self,
        archive: Archive,
        replicas: Sequence[Archive],
        files: FileRepair,
        progress: Progress,
        workers: int,
    ) -> None:
        """Make sidecars of the archive's own files, and take signatures from ``replicas``."""
        self._archive = archive
        self._replicas = replicas
        self._files = files
        self._progress = progress
        self._workers = workers
        self._bad_signatures: dict[str, frozenset[str]] = {}
        self.quarantined: list[str] = []
        """The unneeded sidecars that were taken out of use, by the names that they had."""

    def repair(self, findings: Iterable[Finding]) -> dict[Finding, RepairedFile]:
        """Repair what can be, and return it by the finding that told of it."""
        repaired: dict[Finding, RepairedFile] = {}
        for finding in findings:
            file = None
            if finding.code == "parity-damaged":
                file = self._repair_sidecar(finding.path)
            elif finding.code == "signature-damaged":
                file = self._repair_signature(finding.path)
            if file is not None:
                repaired[finding] = file
        return repaired

    def _repair_sidecar(self, name: str) -> RepairedFile | None:
        """Make a sidecar anew from the file, which is proven first; return None if that is not whole."""
        digest = layout.parity_of(name) or ""
        protected_file = self._names_by_digest.get(digest)
        if protected_file is None:
            return self._quarantine_unneeded(name, digest)
        if self._files.dry_run:
            return RepairedFile(name, PROTECTED_FILE)
        link_to_quarantine(self._archive.store, name)
        parity, group = self._parity_and_group(name)
        report = protect(
            self._archive,
            [protected_file],
            parity=parity,
            group=group,
            workers=self._workers,
            progress=self._progress,
            redo=True,
        )
        return RepairedFile(name, PROTECTED_FILE) if report.made else None

    def _quarantine_unneeded(self, name: str, digest: str) -> RepairedFile | None:
        """Take a damaged sidecar out of use whose file is not here and is needed by nothing."""
        needed = needed_digests(self._archive)
        if needed is None or digest in needed:
            return None
        if not self._files.dry_run:
            move_to_quarantine(self._archive.store, name)
        self.quarantined.append(name)
        return RepairedFile(name, THIS_ARCHIVE)

    @cached_property
    def _names_by_digest(self) -> dict[str, str]:
        """The digest in its name -> the name, of every stored file that can be protected."""
        folders = (layout.PACKS, layout.MANIFESTS, layout.SNAPSHOTS, layout.JOURNAL)
        names = (name for folder in folders for name in self._archive.store.list(folder))
        return {layout.digest_of(name) or "": name for name in names}

    def _parity_and_group(self, name: str) -> tuple[int, int]:
        """Return the parity blocks and data blocks of a group: as the sidecar says, or else the policy."""
        policy = self._archive.policy()
        try:
            with closing(self._archive.store.open(name)) as reader:
                header = read_sidecar(reader, name).header
            return header.parity, -(-header.shape.data_count // header.groups)
        except (ArchiverError, FileNotFoundError):
            return policy.parity or PARITY_DEFAULT, policy.parity_group

    def _repair_signature(self, name: str) -> RepairedFile | None:
        """Take a replica's signature that is right there, as far as the trusted keys can tell."""
        for replica in self._replicas:
            if name in self._bad_signatures_in(replica):
                continue
            try:
                stored_signature(replica.store, name)
                data = replica.store.get(name, FILE_MAX)
            except (ArchiverError, FileNotFoundError):
                continue
            return self._files.put(name, data, replica.store.address)
        return None

    def _bad_signatures_in(self, replica: Archive) -> frozenset[str]:
        title = replica.store.address
        if title not in self._bad_signatures:
            findings = signature_findings(replica, self._archive.policy().keys)
            self._bad_signatures[title] = frozenset(finding.path for finding in findings)
        return self._bad_signatures[title]


def protect_new(
    archive: Archive, names: Iterable[str], progress: Progress, workers: int
) -> list[str]:
    """Give new files the parity that the policy wants; return why it could not be done for some."""
    try:
        policy = archive.policy()
        if not policy.parity:
            return []
        report = protect(
            archive,
            without_sidecar(archive.store, names),
            parity=policy.parity,
            group=policy.parity_group,
            workers=workers,
            progress=progress,
        )
    except NoSpaceError:
        raise
    except ArchiverError as error:
        return [error.message]
    return [failure.reason for failure in report.failures]
