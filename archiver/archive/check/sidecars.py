"""Checking what stands beside the archive proper: parity sidecars and signatures.

Whether a sidecar could help if it had to; whether the signatures of trusted keys are right, and whether
they are there; and what of both nothing needs.
"""

from __future__ import annotations

from contextlib import closing, suppress
from functools import partial
from typing import TYPE_CHECKING

from archiver.archive import layout
from archiver.archive.advice import (
    AddParity,
    Audit,
    SetAsideUnneeded,
    SignAgain,
    SignTrusted,
)
from archiver.archive.check.result import Findings
from archiver.archive.events import Repaired, Sealed
from archiver.archive.findings import Finding
from archiver.archive.fixity import file_digest, is_packed, read_or_reread, require_named
from archiver.archive.parity.coverage import protectable_files
from archiver.archive.parity.sidecar import ParityHeader, read_sidecar
from archiver.archive.places import forgotten
from archiver.archive.signing.minisign import PublicKey, parse_public_key
from archiver.archive.signing.signatures import documents, signed_bytes, stored_signature, unsigned
from archiver.errors import ArchiverError, DamageError
from archiver.text import plural

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Sequence

    from archiver.archive.archive import Archive
    from archiver.archive.seals import Snapshot
    from archiver.progress import Progress
    from archiver.storage.store import Store


# ---- parity


def parity_findings(archive: Archive, *, deep: bool, progress: Progress) -> list[Finding]:
    """Return what is wrong with the sidecars, and which of them nothing needs.

    Their headers and sizes are looked at; ``deep`` reads the parity blocks too, and the manifests that
    they are for. Packs are not read. Raise UnknownFormatError for a sidecar of a newer version.
    """
    store, findings = archive.store, Findings(archive.store)
    place = findings.advice.place
    needed = needed_digests(archive)
    for name in store.list(layout.PARITY):
        digest = layout.parity_of(name)
        if digest is None:
            continue  # an unknown file: whoever looks at all names finds it
        _, result = read_or_reread(store, name, partial(_require_sound, store, name, deep=deep))
        unneeded = needed is not None and digest not in needed
        mend = SetAsideUnneeded(place) if unneeded else AddParity(place)
        findings.add_read("parity-damaged", result, name, (mend, Audit(place)))
        if unneeded:
            text = f"{name} is the parity of no file that is here or that a seal needs."
            findings.add("unneeded-parity", text, path=name)
        progress.advance((store.stat(name) or 0) if deep else 0, fetched=True)
    return findings.all


def _require_sound(store: Store, name: str, *, deep: bool) -> bool:
    """Return True, or raise DamageError with all that is wrong with a sidecar."""
    with closing(store.open(name)) as reader:
        sidecar = read_sidecar(reader, name)
        header, faults = sidecar.header, [*sidecar.faults]
        # A pack, a seal and an event have one form only, whose size and digest are known.
        if not is_packed(header.file) and header.blake3 != layout.digest_of(header.file):
            faults.append("it was made of other bytes than its name says")
        if deep:
            bad_blocks = sidecar.bad_blocks()
            if bad_blocks:
                total = plural(len(header.blocks), "parity block")
                faults.append(f"{len(bad_blocks)} of {total} cannot be used")
            faults += _other_form(store, header)
    if faults:
        raise DamageError(f"{name} is damaged: {'; '.join(faults)}.", path=name)
    return True


def _other_form(store: Store, header: ParityHeader) -> Iterator[str]:
    """Say that a manifest was compressed anew: then its parity is of a file that is not there."""
    if not is_packed(header.file):
        return
    with suppress(FileNotFoundError, ArchiverError), closing(store.open(header.file)) as reader:
        if file_digest(reader) != header.blake3:
            require_named(reader, header.file)  # if it is damaged, that is a finding of its own
            yield f"{header.file} is compressed in another way than when it was made"


def needed_digests(archive: Archive) -> frozenset[str] | None:
    """Return the digests, in names, of the files that are here or should be; None if nobody can say."""
    damaged: list[str] = []
    try:
        snapshots = archive.snapshots(lambda name, _error: damaged.append(name))
        seals = {snapshot.id for snapshot in snapshots}
        events = list(archive.events(lambda name, _error: damaged.append(name)))
        sealed: set[str] = set()
        set_aside = set(forgotten(events))
        for _, event in events:
            match event.detail:
                case Sealed(snapshot) if snapshot:
                    sealed.add(snapshot)
                case Repaired() as repaired:
                    set_aside.update(repaired.replaced_seals)
        if damaged or sealed - seals - set_aside:
            return None
        stored = (layout.PACKS, layout.MANIFESTS, layout.SNAPSHOTS, layout.JOURNAL)
        names = {name for folder in stored for name in archive.store.list(folder)}
        digests = {layout.digest_of(name) or "" for name in names | protectable_files(archive)}
    except ArchiverError:
        return None  # a document that may not be read: a finding where documents are checked
    return frozenset(digests.union(*(event.after for _, event in events)))


# ---- signatures


def signature_findings(archive: Archive, keys: Sequence[str]) -> list[Finding]:
    """Return what is wrong with the signatures of an archive.

    A signature of a key that is not in ``keys`` (public keys in minisign's base64) must be one, and is
    not judged further. A damaged document is no finding here.

    Raises:
        UsageError: A key is none.
    """
    store, findings = archive.store, Findings(archive.store)
    trusted = [parse_public_key(key) for key in keys]
    signed = {layout.digest_of(name): name for name in documents(store)}
    for name in store.list(layout.SIGNATURES):
        signature = layout.signature_of(name)
        if signature is None:
            continue  # a foreign file: whoever looks at all names finds it
        document = signed.get(signature.digest)
        if document is None:
            text = f"{name} signs a document that is not there."
            findings.add("unneeded-signature", text, path=name)
        own = [key for key in trusted if key.id == signature.key]
        read = partial(_require_right, store, name, own, document)
        _, result = read_or_reread(store, name, read)
        actions = (SignAgain(findings.advice.place, name),)
        findings.add_read("signature-damaged", result, name, actions)
    return findings.all


def _require_right(
    store: Store, name: str, trusted: Sequence[PublicKey], document: str | None
) -> None:
    """Raise DamageError unless the signature is right, as far as that can be told."""
    signature = stored_signature(store, name)
    if not trusted or document is None:
        return
    try:
        data = signed_bytes(store, document)
    except ArchiverError:
        return  # a finding where documents are checked
    faults = []
    for key in trusted:
        try:
            signature.verify(key, data)
        except DamageError as error:
            faults.append(error.message)
    if len(faults) == len(trusted):
        raise DamageError(f"The signature {name} does not fit {document}: {faults[0]}.", path=name)


def missing_findings(
    archive: Archive, snapshots: Iterable[Snapshot], keys: Sequence[str], known: Container[str]
) -> Iterator[Finding]:
    """Return a finding for each seal and manifest that no key of ``keys`` signed.

    Without those that are ``known`` already to be wrong by their names, or by that of their signature.
    """
    ids = [parse_public_key(key).id for key in keys]
    action = SignTrusted(archive.store.address)
    for snapshot, name in unsigned(archive.store, snapshots, keys):
        digest = layout.digest_of(name) or ""
        if name in known or any(layout.signature_name(digest, id_) in known for id_ in ids):
            continue
        text = f"{name} has no signature by a trusted key."
        titles = (snapshot.title,)
        yield Finding("signature-missing", text, name, snapshots=titles, actions=(action,))
