"""Checking parity sidecars: whether they could help if they had to, and whether anything needs them."""

from __future__ import annotations

from contextlib import closing, suppress
from functools import partial
from typing import TYPE_CHECKING

from archiver.archive import layout
from archiver.archive.advice import (
    AddParity,
    Advice,
    Audit,
    SetAsideUnneeded,
    SignAgain,
    SignTrusted,
)
from archiver.archive.events import Repaired, Sealed
from archiver.archive.findings import Finding
from archiver.archive.fixity import file_digest, is_packed, read_or_reread, require_named
from archiver.archive.parity.protect import protectable_files
from archiver.archive.parity.sidecar import ParityHeader, Sidecar, read_sidecar
from archiver.archive.places import forgotten
from archiver.archive.signing.minisign import PublicKey, Signature, parse_public_key
from archiver.archive.signing.signatures import documents, signed_bytes, stored_signature, unsigned
from archiver.errors import ArchiverError, DamageError
from archiver.text import plural

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Sequence

    from archiver.archive.archive import Archive
    from archiver.archive.fixity import ReadResult
    from archiver.archive.seals import Snapshot
    from archiver.progress import Progress
    from archiver.storage.store import Store


def parity_findings(archive: Archive, *, deep: bool, progress: Progress) -> Iterator[Finding]:
    """What is wrong with the sidecars, and which of them nothing needs.

    Their headers and sizes are looked at; ``deep`` reads the parity blocks too, and the manifests that
    they are for. Packs are not read. Raises UnknownFormatError for a sidecar of a newer version.
    """
    advice = Advice(archive.store.address)
    needed = needed_digests(archive)
    for name in archive.store.list(layout.PARITY):
        digest = layout.parity_of(name)
        if digest is None:
            continue  # an unknown file: whoever looks at all names tells
        check = partial(_check, archive.store, name, deep=deep)
        _, state = read_or_reread(archive.store, name, check)
        needless = needed is not None and digest not in needed
        yield from _told(name, state, advice, needless=needless)
        if needless:
            text = f"{name} is the parity of no file that is here or that a seal needs."
            yield Finding("unneeded-parity", text, path=name)
        progress.advance((archive.store.stat(name) or 0) if deep else 0, fetched=True)


def _told(name: str, state: ReadResult, advice: Advice, *, needless: bool) -> Iterator[Finding]:
    if state.unstable:
        yield Finding("read-unstable", state.unstable, path=name, actions=advice.unstable())
    if state.denied:
        actions = advice.make_readable()
        yield Finding("file-unreadable", state.problem, path=name, actions=actions)
    elif state.problem:
        mend = SetAsideUnneeded(advice.place) if needless else AddParity(advice.place)
        actions = (mend, Audit(advice.place))
        yield Finding("parity-damaged", state.problem, path=name, actions=actions)


def _check(store: Store, name: str, *, deep: bool) -> bool:
    """True, or DamageError with all that is wrong with a sidecar."""
    with closing(store.open(name)) as reader:
        sidecar = read_sidecar(reader, name)
        faults = [*sidecar.faults, *_strange(sidecar.header)]
        if deep:
            faults += [*_lost(sidecar), *_other_form(store, sidecar.header)]
    if faults:
        raise DamageError(f"{name} is damaged: {'; '.join(faults)}.", path=name)
    return True


def _strange(header: ParityHeader) -> Iterator[str]:
    """A pack, a seal and an event have one form only, whose size and digest are known."""
    if is_packed(header.file):
        return
    if header.blake3 != layout.digest_of(header.file):
        yield "it was made of other bytes than its name says"


def _lost(sidecar: Sidecar) -> Iterator[str]:
    bad = sidecar.bad_blocks()
    if bad:
        total = plural(len(sidecar.header.blocks), "parity block")
        yield f"{len(bad)} of {total} cannot be used"


def _other_form(store: Store, header: ParityHeader) -> Iterator[str]:
    """A manifest may have been compressed anew: then its parity is of a file that is not there."""
    if not is_packed(header.file):
        return
    with suppress(FileNotFoundError, ArchiverError), closing(store.open(header.file)) as reader:
        if file_digest(reader) != header.blake3:
            require_named(reader, header.file)  # if it is damaged, that is told elsewhere
            yield f"{header.file} is compressed in another way than when it was made"


def needed_digests(archive: Archive) -> frozenset[str] | None:
    """The digests, in names, of the files that are here or should be; None if that cannot be told."""
    try:
        return _named(archive)
    except ArchiverError:
        return None  # a document that may not be read: told where documents are checked


def _named(archive: Archive) -> frozenset[str] | None:
    damaged: list[str] = []
    seals = [one.id for one in archive.snapshots(lambda name, _error: damaged.append(name))]
    events = list(archive.events(lambda name, _error: damaged.append(name)))
    sealed: set[str] = set()
    set_aside = set(forgotten(events))
    for _, event in events:
        match event.detail:
            case Sealed(snapshot) if snapshot:
                sealed.add(snapshot)
            case Repaired() as repaired:
                set_aside.update(repaired.replaced_seals)
    if damaged or sealed - set(seals) - set_aside:
        return None
    stored = (layout.PACKS, layout.MANIFESTS, layout.SNAPSHOTS, layout.JOURNAL)
    names = {name for folder in stored for name in archive.store.list(folder)}
    digests = {layout.digest_of(name) or "" for name in names | protectable_files(archive)}
    return frozenset(digests.union(*(event.after for _, event in events)))


# ---- Checking signatures: those of trusted keys must be right, and may be wanted of every snapshot.


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
    action = SignTrusted(archive.store.address)
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
        self._advice = Advice(archive.store.address)
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
        _, state = read_or_reread(self._store, name, partial(self._read, name, told.key, document))
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
        found = stored_signature(self._store, name)
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
