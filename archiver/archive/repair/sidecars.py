"""Mending what stands beside the archive proper: parity sidecars and signatures."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Final

from archiver.archive import layout
from archiver.archive.check.sidecars import needed_digests, signature_findings
from archiver.archive.parity.protect import protect, without_sidecar
from archiver.archive.parity.sidecar import read_sidecar
from archiver.archive.quarantine import link_to_quarantine, move_to_quarantine
from archiver.archive.repair.objects import OWN
from archiver.archive.repair.whole_files import Mended, WholeFiles
from archiver.archive.signing.minisign import FILE_MAX
from archiver.archive.signing.signatures import stored_signature
from archiver.errors import ArchiverError, NoSpaceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from archiver.archive.archive import Archive
    from archiver.archive.findings import Finding
    from archiver.archive.policy import Policy
    from archiver.progress import Progress

PROTECTED: Final = "the file that it protects"
"""Where a sidecar that is made anew comes from."""


class Companions:
    """Heals damaged sidecars and signatures; to be used when the files that they are for are whole."""

    def __init__(
        self,
        archive: Archive,
        replicas: Sequence[Archive],
        whole: WholeFiles,
        progress: Progress,
        workers: int,
    ) -> None:
        """Make sidecars of the archive's own files, and take signatures from ``replicas``."""
        self._archive = archive
        self._replicas = replicas
        self._whole = whole
        self._progress = progress
        self._workers = workers
        self._names: dict[str, str] = {}
        self._bad: dict[str, frozenset[str]] = {}
        self.aside: list[str] = []
        """What was taken out of use, by the names that it had."""

    def heal(self, findings: Iterable[Finding]) -> dict[Finding, Mended]:
        """What could be healed, by the finding that told of it."""
        healed: dict[Finding, Mended] = {}
        for one in findings:
            back = None
            if one.code == "parity-damaged":
                back = self._sidecar(one.path)
            elif one.code == "signature-damaged":
                back = self._signature(one.path)
            if back is not None:
                healed[one] = back
        return healed

    # ---- parity

    def _sidecar(self, place: str) -> Mended | None:
        """Made anew from the file, which is proven first; None if that is not whole."""
        digest = layout.parity_of(place) or ""
        name = self._protected(digest)
        if name is None:
            return self._needless(place, digest)
        if self._whole.dry_run:
            return Mended(place, PROTECTED)
        link_to_quarantine(self._archive.store, place)
        parity, group = self._shape(place)
        done = protect(
            self._archive,
            [name],
            parity=parity,
            group=group,
            workers=self._workers,
            progress=self._progress,
            redo=True,
        )
        return Mended(place, PROTECTED) if done.made else None

    def _needless(self, place: str, digest: str) -> Mended | None:
        """Set aside a damaged sidecar of a file that is not here and that nothing needs."""
        needed = needed_digests(self._archive)
        if needed is None or digest in needed:
            return None
        if not self._whole.dry_run:
            move_to_quarantine(self._archive.store, place)
        self.aside.append(place)
        return Mended(place, OWN)

    def _protected(self, digest: str) -> str | None:
        """The name of the stored file that has the digest in its name."""
        if not self._names:
            store = self._archive.store
            folders = (layout.PACKS, layout.MANIFESTS, layout.SNAPSHOTS, layout.JOURNAL)
            names = (name for folder in folders for name in store.list(folder))
            self._names = {layout.digest_of(name) or "": name for name in names}
        return self._names.get(digest)

    def _shape(self, place: str) -> tuple[int, int]:
        """Parity blocks and data blocks of a group: as the sidecar says, or else the policy."""
        policy = self._archive.policy()
        try:
            with closing(self._archive.store.open(place)) as reader:
                header = read_sidecar(reader, place).header
            data = -(-header.size // header.block)
            return header.parity, -(-data // header.groups)
        except (ArchiverError, FileNotFoundError):
            return policy.parity or 2, policy.parity_group

    # ---- signatures

    def _signature(self, name: str) -> Mended | None:
        """A replica's signature that is right there, as far as the trusted keys can tell."""
        for replica in self._replicas:
            title = replica.store.address
            if name in self._bad_in(replica):
                continue
            try:
                stored_signature(replica.store, name)
                data = replica.store.get(name, FILE_MAX)
            except (ArchiverError, FileNotFoundError):
                continue
            return self._whole.put(name, data, title)
        return None

    def _bad_in(self, replica: Archive) -> frozenset[str]:
        title = replica.store.address
        if title not in self._bad:
            keys = self._archive.policy().keys
            self._bad[title] = frozenset(one.path for one in signature_findings(replica, keys))
        return self._bad[title]


def protect_new(
    archive: Archive, names: Iterable[str], progress: Progress, workers: int
) -> list[str]:
    """Give new files the parity that the policy wants; why it could not be done for some."""
    try:
        policy: Policy = archive.policy()
        if not policy.parity:
            return []
        done = protect(
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
    return [one.reason for one in done.failures]
