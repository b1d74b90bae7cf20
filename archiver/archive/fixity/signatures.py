"""Checking signatures: those of trusted keys must be right, and may be wanted of every snapshot."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from archiver.archive import layout
from archiver.archive.advice import Advice, SignAgain, SignTrusted
from archiver.archive.finding import Finding
from archiver.archive.fixity.read_twice import read_twice
from archiver.archive.signing.document import documents, signed_bytes
from archiver.archive.signing.minisign import PublicKey, Signature, parse_public_key
from archiver.archive.signing.stored import read_signature, unsigned
from archiver.errors import ArchiverError, DamageError

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Sequence

    from archiver.archive.archive import Archive, Snapshot


def signature_findings(archive: Archive, keys: Sequence[str]) -> Iterator[Finding]:
    """What is wrong with the signatures of an archive.

    A signature of a key that is not in ``keys`` (public keys in minisign's base64) must be one, and is
    not judged further. A damaged document is not told here.

    Raises:
        UsageError: A key is none.
    """
    check = _Check(archive, [parse_public_key(key) for key in keys])
    for name in archive.store.list(layout.SIGNATURES):
        yield from check.findings(name)


def missing_findings(
    archive: Archive, snapshots: Iterable[Snapshot], keys: Sequence[str], told: Container[str]
) -> Iterator[Finding]:
    """A finding for each seal and manifest that no key of ``keys`` signed.

    None for what is ``told`` of already by its name, or by that of its signature.
    """
    ids = [parse_public_key(key).id for key in keys]
    action = SignTrusted(archive.store.describe())
    for one, name in unsigned(archive.store, snapshots, keys):
        digest = layout.digest_of(name) or ""
        if name in told or any(layout.signature_name(digest, id_) in told for id_ in ids):
            continue
        text = f"{name} has no signature by a trusted key."
        yield Finding("signature-missing", text, name, snapshots=(one.title,), actions=(action,))


class _Check:
    """One look at all signatures."""

    def __init__(self, archive: Archive, keys: list[PublicKey]) -> None:
        self._store = archive.store
        self._advice = Advice(archive.store.describe())
        self._keys = keys
        self._documents = {layout.digest_of(name): name for name in documents(archive.store)}

    def findings(self, name: str) -> Iterator[Finding]:
        told = layout.signature_of(name)
        if told is None:
            return  # a foreign file: whoever looks at all names tells
        document = self._documents.get(told.digest)
        if document is None:
            text = f"{name} signs a document that is not there."
            yield Finding("unneeded-signature", text, path=name)
        _, state = read_twice(self._store, name, partial(self._read, name, told.key, document))
        if state.unstable:
            actions = self._advice.unstable()
            yield Finding("read-unstable", state.unstable, path=name, actions=actions)
        if state.denied:
            actions = self._advice.make_readable()
            yield Finding("file-unreadable", state.problem, path=name, actions=actions)
        elif state.problem:
            actions = (SignAgain(self._advice.place, name),)
            yield Finding("signature-damaged", state.problem, path=name, actions=actions)

    def _read(self, name: str, key: str, document: str | None) -> None:
        """Raise DamageError unless the signature is right, as far as that can be told."""
        found = read_signature(self._store, name)
        trusted = [one for one in self._keys if one.id == key]
        signed = self._signed(document) if trusted and document else None
        if signed is None:
            return
        faults = [fault for one in trusted if (fault := _fault(found, one, signed))]
        if len(faults) == len(trusted):
            raise DamageError(
                f"The signature {name} does not fit {document}: {faults[0]}.", path=name
            )

    def _signed(self, document: str) -> bytes | None:
        try:
            return signed_bytes(self._store, document)
        except ArchiverError:
            return None  # told where documents are checked


def _fault(found: Signature, key: PublicKey, signed: bytes) -> str:
    try:
        found.verify(key, signed)
    except DamageError as error:
        return error.message
    return ""
