"""Sign: every seal and its manifest, and the heads of the journal, with one key."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from archiver.archive import layout
from archiver.archive.advice import Explain
from archiver.archive.events import Signed, new_event
from archiver.archive.findings import Finding
from archiver.archive.signing.signatures import is_signed, signed_bytes
from archiver.errors import DamageError
from archiver.text import printable, utc_now

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from archiver.archive.archive import Archive
    from archiver.archive.findings import Code
    from archiver.archive.seals import Snapshot
    from archiver.archive.signing.keys import SecretKey

_LISTED: Final = 10_000
"""How many digests one event lists: they take less than the 1 MiB that an event may have."""


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
    told: str

    @property
    def digest(self) -> str:
        return layout.digest_of(self.name) or ""


def sign(
    archive: Archive, key: SecretKey, wanted: Iterable[tuple[str, str | None]] = ()
) -> SignReport:
    """Sign what has no valid signature by ``key`` yet.

    Args:
        archive: Its store is written to.
        key: The key.
        wanted: Repositories, each with (the beginning of) a revision or None; none at all means every
            snapshot.

    Raises:
        UsageError: A snapshot that is wanted is not there.
    """
    archive.require_writable()
    return _Signing(archive, key).run(list(wanted))


class _Signing:
    """One run."""

    def __init__(self, archive: Archive, key: SecretKey) -> None:
        self._archive = archive
        self._store = archive.store
        self._key = key
        self._public = key.public
        self._findings: list[Finding] = []

    def run(self, wanted: list[tuple[str, str | None]]) -> SignReport:
        """Say first what will be signed, so that the head that is signed vouches for it too."""
        snapshots = self._snapshots(wanted)
        documents = list(dict.fromkeys(_documents(snapshots)))
        before = len(self._findings)
        unsigned = list(self._unsigned(documents))
        kept = len(documents) - len(unsigned) - (len(self._findings) - before)
        for first in range(0, len(unsigned), _LISTED):
            digests = tuple(one.digest for one in unsigned[first : first + _LISTED])
            self._archive.record(new_event(Signed(self._key.id, digests)))
        for document in unsigned:
            self._sign(document)
        heads = self._heads()
        self._store.barrier()
        return SignReport(self._key.id, len(unsigned), kept, heads, tuple(self._findings))

    def _snapshots(self, wanted: list[tuple[str, str | None]]) -> list[Snapshot]:
        if not wanted:
            return list(self._archive.snapshots(on_damage=self._damaged_seal))
        return [
            one
            for reference in wanted
            for one in self._archive.fitting(*reference, self._damaged_seal)
        ]

    def _damaged_seal(self, name: str, error: DamageError) -> None:
        self._bad("seal-damaged", name, error)

    def _bad(self, code: Code, name: str, error: DamageError, snapshot: str = "") -> None:
        snapshots = (snapshot,) if snapshot else ()
        text = f"{error.message} It was not signed."
        self._findings.append(
            Finding(code, text, name, snapshots=snapshots, actions=(Explain(code),))
        )

    def _unsigned(self, documents: Iterable[_Document]) -> Iterator[_Document]:
        """Yield those that are whole and have no valid signature; the damaged ones become findings."""
        for document in documents:
            try:
                signed_bytes(self._store, document.name)
            except DamageError as error:
                self._bad(self._code(document.name), document.name, error)
                continue
            if not is_signed(self._store, document.name, [self._public]):
                yield document

    def _code(self, name: str) -> Code:
        if layout.event_of(name):
            return "event-damaged"
        if not name.startswith(f"{layout.MANIFESTS}/"):
            return "seal-damaged"
        return "manifest-missing" if self._store.stat(name) is None else "manifest-damaged"

    def _sign(self, document: _Document) -> None:
        """Write the signature; a damaged one in its place goes to the quarantine."""
        now = utc_now()
        comment = f"{document.told}, archive {self._archive.info.archive}, signed {now}"
        data = self._key.signature(
            signed_bytes(self._store, document.name), printable(comment, 1000)
        )
        name = layout.signature_name(document.digest, self._key.id)
        with contextlib.suppress(FileNotFoundError, FileExistsError):
            self._store.link(name, layout.quarantined_name(layout.QUARANTINE, now, name))
        staged = self._store.stage("signature")
        try:
            staged.write(data)
            staged.publish(name)
        finally:
            staged.abort()

    def _heads(self) -> tuple[str, ...]:
        heads = set(self._archive.journal.heads())
        names = [name for name in self._archive.journal.names() if layout.event_of(name) in heads]
        told = [_Document(name, f"head {layout.event_of(name)} of the journal") for name in names]
        unsigned = list(self._unsigned(told))
        for document in unsigned:
            self._sign(document)
        return tuple(document.digest for document in unsigned)


def _documents(snapshots: Iterable[Snapshot]) -> Iterator[_Document]:
    for snapshot in snapshots:
        seal = snapshot.seal
        title = f"of {seal.repository}@{seal.revision}"
        yield _Document(snapshot.name, f"seal {title}, sealed {seal.sealed}")
        name = layout.manifest_name(seal.repository, seal.revision, seal.manifest.blake3)
        yield _Document(name, f"manifest {title}")
