"""Sign: every seal and its manifest, and the heads of the journal, with one key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from archiver.archive import layout
from archiver.archive.advice import Explain
from archiver.archive.events import Signed, new_event
from archiver.archive.findings import Finding
from archiver.archive.quarantine import link_to_quarantine
from archiver.archive.signing.signatures import is_signed, signed_bytes
from archiver.errors import DamageError
from archiver.text import printable, utc_now

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from archiver.archive.archive import Archive
    from archiver.archive.findings import Code
    from archiver.archive.seals import Snapshot
    from archiver.archive.signing.keys import SecretKey

_LISTED: Final = 10_000
"""How many digests one event lists: they take less than the 1 MiB that an event may have."""


class SignRequest(NamedTuple):
    """What to sign with ``key``.

    ``references`` are repositories, each with (the beginning of) a revision or None; none at all means
    every snapshot.
    """

    key: SecretKey
    references: tuple[tuple[str, str | None], ...] = ()


class SignReport(msgspec.Struct, frozen=True):
    """What was done.

    ``signed`` and ``kept`` count documents: those signed now, and those that had a valid signature by
    this key. ``heads`` are the ids of the journal's heads that are signed now.
    """

    key: str
    signed: int
    kept: int
    heads: tuple[str, ...]
    findings: tuple[Finding, ...]


class _Document(NamedTuple):
    """A stored file to be signed, and what the trusted comment says of it."""

    name: str
    title: str

    @property
    def digest(self) -> str:
        return layout.digest_of(self.name) or ""


def sign(archive: Archive, request: SignRequest) -> SignReport:
    """Sign what has no valid signature by the key yet; raise UsageError if a snapshot is not there."""
    archive.require_writable()
    return _Signing(archive, request.key).run(request.references)


class _Signing:
    """One run."""

    def __init__(self, archive: Archive, key: SecretKey) -> None:
        self._archive = archive
        self._store = archive.store
        self._key = key
        self._findings: list[Finding] = []

    def run(self, references: Sequence[tuple[str, str | None]]) -> SignReport:
        documents = list(dict.fromkeys(_documents(self._snapshots(references))))
        before = len(self._findings)
        unsigned = self._unsigned(documents)
        damaged = len(self._findings) - before
        # Say first what will be signed, so that the head that is signed vouches for it too.
        for first in range(0, len(unsigned), _LISTED):
            digests = tuple(document.digest for document in unsigned[first : first + _LISTED])
            self._archive.record(new_event(Signed(self._key.id, digests)))
        for document in unsigned:
            self._sign(document)
        ids = set(self._archive.journal.heads())
        heads = self._unsigned(
            _Document(name, f"head {layout.event_of(name)} of the journal")
            for name in self._archive.journal.names()
            if layout.event_of(name) in ids
        )
        for head in heads:
            self._sign(head)
        self._store.barrier()
        return SignReport(
            key=self._key.id,
            signed=len(unsigned),
            kept=len(documents) - len(unsigned) - damaged,
            heads=tuple(head.digest for head in heads),
            findings=tuple(self._findings),
        )

    def _snapshots(self, references: Sequence[tuple[str, str | None]]) -> list[Snapshot]:
        def damaged(name: str, error: DamageError) -> None:
            self._add_finding("seal-damaged", name, error)

        if not references:
            return list(self._archive.snapshots(on_damage=damaged))
        return [
            snapshot
            for reference in references
            for snapshot in self._archive.fitting(*reference, damaged)
        ]

    def _unsigned(self, documents: Iterable[_Document]) -> list[_Document]:
        """Return those that are whole and have no valid signature; the damaged ones become findings."""
        unsigned = []
        for document in documents:
            try:
                signed_bytes(self._store, document.name)
            except DamageError as error:
                self._add_finding(self._code(document.name), document.name, error)
                continue
            if not is_signed(self._store, document.name, [self._key.public]):
                unsigned.append(document)
        return unsigned

    def _add_finding(self, code: Code, name: str, error: DamageError) -> None:
        message = f"{error.message} It was not signed."
        self._findings.append(Finding(code, message, name, actions=(Explain(code),)))

    def _code(self, name: str) -> Code:
        if layout.event_of(name):
            return "event-damaged"
        if not name.startswith(f"{layout.MANIFESTS}/"):
            return "seal-damaged"
        return "manifest-missing" if self._store.stat(name) is None else "manifest-damaged"

    def _sign(self, document: _Document) -> None:
        """Write the signature; a damaged one in its place goes to the quarantine."""
        now = utc_now()
        comment = f"{document.title}, archive {self._archive.info.archive}, signed {now}"
        data = self._key.signature(
            signed_bytes(self._store, document.name), printable(comment, 1000)
        )
        name = layout.signature_name(document.digest, self._key.id)
        link_to_quarantine(self._store, name)
        staged = self._store.stage("signature")
        try:
            staged.write(data)
            staged.publish(name)
        finally:
            staged.abort()


def _documents(snapshots: Iterable[Snapshot]) -> Iterator[_Document]:
    """Yield the seal and the manifest of each."""
    for snapshot in snapshots:
        seal = snapshot.seal
        title = f"of {seal.repository}@{seal.revision}"
        yield _Document(snapshot.name, f"seal {title}, sealed {seal.sealed}")
        name = layout.manifest_name(seal.repository, seal.revision, seal.manifest.blake3)
        yield _Document(name, f"manifest {title}")
