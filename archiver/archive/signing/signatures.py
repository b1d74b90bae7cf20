"""The documents of an archive that are signed, and the bytes of each that a signature covers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from archiver.archive import layout
from archiver.archive.journal import EVENT_MAX
from archiver.archive.manifests import decompressed
from archiver.archive.records import MANIFEST_MAX, SEAL_MAX
from archiver.archive.signing.keys import read_signature
from archiver.archive.signing.minisign import (
    FILE_MAX,
    PublicKey,
    Signature,
    parse_public_key,
    parse_signature,
)
from archiver.digest import blake3_hex
from archiver.errors import ArchiverError, DamageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from archiver.archive.seals import Snapshot
    from archiver.storage.store import Store


def signed_bytes(store: Store, name: str) -> bytes:
    """Of a seal or event its bytes, of a manifest its canonical JSON.

    DamageError if the file is not there, or if these bytes have another digest than its name.
    """
    manifest, event = name.startswith(f"{layout.MANIFESTS}/"), layout.event_of(name)
    limit = MANIFEST_MAX if manifest else EVENT_MAX if event else SEAL_MAX
    try:
        data = store.get(name, limit)
    except FileNotFoundError:
        raise DamageError(f"{name} is missing.", path=name) from None
    plain = decompressed(data, name) if manifest else data
    if blake3_hex(plain) != layout.digest_of(name):
        raise DamageError(f"{name} is damaged: its bytes have another digest.", path=name)
    return plain


def documents(store: Store) -> Iterator[str]:
    """The names of all seals, manifests and events that are there, whole or not."""
    for folder in (layout.SNAPSHOTS, layout.MANIFESTS, layout.JOURNAL):
        yield from (name for name in store.list(folder) if layout.digest_of(name))


# ---- The signatures that an archive has: reading one, and which documents have one by a trusted key.


def stored_signature(store: Store, name: str) -> Signature:
    """A stored signature; DamageError if it is none, or lies under the name of another key's."""
    try:
        found = parse_signature(store.get(name, FILE_MAX))
    except FileNotFoundError:
        raise DamageError(
            f"The signature {name} vanished while it was being read.", path=name
        ) from None
    except DamageError as error:
        raise DamageError(f"The signature {name} is damaged: {error.message}.", path=name) from None
    told = layout.signature_of(name)
    if told is None or told.key != found.key:
        raise DamageError(f"The signature {name} lies under a name that is not its own.", path=name)
    return found


def is_signed(store: Store, name: str, keys: Iterable[PublicKey]) -> bool:
    """Whether one of ``keys`` made a signature of the document ``name`` that the archive has."""
    digest = layout.digest_of(name) or ""
    names = {key: layout.signature_name(digest, key.id) for key in keys}
    return any(_valid(store, name, key, at) for key, at in names.items())


def _valid(store: Store, name: str, key: PublicKey, at: str) -> bool:
    if store.stat(at) is None:
        return False
    try:
        stored_signature(store, at).verify(key, signed_bytes(store, name))
    except ArchiverError:
        return False
    return True


def unsigned(
    store: Store, snapshots: Iterable[Snapshot], keys: Sequence[str]
) -> Iterator[tuple[Snapshot, str]]:
    """The snapshots' seals and manifests, by name, without a valid signature by one of ``keys``.

    A document that is damaged, or not there, counts as unsigned. UsageError if a key is none.
    """
    trusted = [parse_public_key(key) for key in keys]
    for one in snapshots:
        seal = one.seal
        manifest = layout.manifest_name(seal.repository, seal.revision, seal.manifest.blake3)
        for name in (one.name, manifest):
            if not is_signed(store, name, trusted):
                yield one, name


# ---- A manifest in a file is believed only if a trusted key signed it.


SUFFIX = ".minisig"


class UntrustedError(DamageError):
    """No trusted key signed these bytes."""


class Trust(NamedTuple):
    """Which keys are trusted, and where the signature is; None: beside the signed file."""

    keys: tuple[PublicKey, ...]
    signature: Path | None = None

    def candidates(self, signed: Path) -> list[Path]:
        """Where a signature of the file ``signed`` may lie, the usual place first."""
        if self.signature is not None:
            return [self.signature]
        return [beside(signed), *(beside(signed, key.id) for key in self.keys)]

    def require(self, signed: Path, data: bytes) -> str:
        """The id of the trusted key that signed ``data``, which is what the file ``signed`` holds.

        UntrustedError says why there is none.
        """
        there = [path for path in self.candidates(signed) if path.is_file()]
        if not there:
            wanted = self.candidates(signed)[0]
            raise UntrustedError(f"There is no signature of {signed}: {wanted} is not there.")
        faults: list[str] = []
        for path in there:
            for key in self.keys:
                fault = _fault(path, key, data)
                if not fault:
                    return key.id
                faults.append(fault)
        raise UntrustedError(f"No trusted key signed {signed}: {'; '.join(dict.fromkeys(faults))}.")


def beside(signed: Path, key: str = "") -> Path:
    """Where the signature of a file lies, or the one by a further key."""
    return Path(f"{signed}.{key}{SUFFIX}" if key else f"{signed}{SUFFIX}")


def _fault(path: Path, key: PublicKey, data: bytes) -> str:
    try:
        read_signature(path).verify(key, data)
    except DamageError as error:
        return error.message.rstrip(".")
    return ""
