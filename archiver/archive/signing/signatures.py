"""Signatures of documents: what of an archive is signed, and by whom, and what a trusted key says.

Signatures of seals, manifests and events lie in the archive; that of a manifest outside of one lies
beside it, and it is believed only if a trusted key made it.
"""

from __future__ import annotations

from contextlib import suppress
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
    """Return what a signature covers: a seal's or event's bytes, a manifest's canonical JSON.

    Raise DamageError if the file is not there, or if these bytes have another digest than its name.
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
    """Yield the names of all seals, manifests and events that are there, whole or not."""
    for folder in (layout.SNAPSHOTS, layout.MANIFESTS, layout.JOURNAL):
        yield from (name for name in store.list(folder) if layout.digest_of(name))


def stored_signature(store: Store, name: str) -> Signature:
    """Return a stored signature; raise DamageError if it is none, or lies under another key's name."""
    try:
        signature = parse_signature(store.get(name, FILE_MAX))
    except FileNotFoundError:
        raise DamageError(
            f"The signature {name} vanished while it was being read.", path=name
        ) from None
    except DamageError as error:
        raise DamageError(f"The signature {name} is damaged: {error.message}.", path=name) from None
    parts = layout.signature_of(name)
    if parts is None or parts.key != signature.key:
        raise DamageError(f"The signature {name} lies under a name that is not its own.", path=name)
    return signature


def is_signed(store: Store, name: str, keys: Iterable[PublicKey]) -> bool:
    """Return whether one of ``keys`` made a signature of the document ``name`` that the archive has."""
    for key in keys:
        signature = layout.signature_name(layout.digest_of(name) or "", key.id)
        if store.stat(signature) is None:
            continue
        with suppress(ArchiverError):
            stored_signature(store, signature).verify(key, signed_bytes(store, name))
            return True
    return False


def unsigned(
    store: Store, snapshots: Iterable[Snapshot], keys: Sequence[str]
) -> Iterator[tuple[Snapshot, str]]:
    """Yield the snapshots' seals and manifests, by name, without a valid signature by one of ``keys``.

    A document that is damaged, or not there, counts as unsigned. Raise UsageError if a key is none.
    """
    trusted = [parse_public_key(key) for key in keys]
    for snapshot in snapshots:
        seal = snapshot.seal
        manifest = layout.manifest_name(seal.repository, seal.revision, seal.manifest.blake3)
        for name in (snapshot.name, manifest):
            if not is_signed(store, name, trusted):
                yield snapshot, name


class UntrustedError(DamageError):
    """No trusted key signed these bytes."""


class Trust(NamedTuple):
    """Which keys are trusted, and where the signature is; None: beside the signed file."""

    keys: tuple[PublicKey, ...]
    signature: Path | None = None

    def candidates(self, signed: Path) -> list[Path]:
        """Return where a signature of the file ``signed`` may lie, the usual place first."""
        if self.signature is not None:
            return [self.signature]
        return [beside(signed), *(beside(signed, key.id) for key in self.keys)]

    def require(self, signed: Path, data: bytes) -> str:
        """Return the id of the trusted key that signed ``data``, which is what the file ``signed`` holds.

        Raise UntrustedError that says why there is none.
        """
        present = [path for path in self.candidates(signed) if path.is_file()]
        if not present:
            usual = self.candidates(signed)[0]
            raise UntrustedError(f"There is no signature of {signed}: {usual} is not there.")
        faults: list[str] = []
        for path in present:
            for key in self.keys:
                try:
                    read_signature(path).verify(key, data)
                except DamageError as error:
                    faults.append(error.message.rstrip("."))
                else:
                    return key.id
        raise UntrustedError(f"No trusted key signed {signed}: {'; '.join(dict.fromkeys(faults))}.")


def beside(signed: Path, key: str = "") -> Path:
    """Return where the signature of a file lies, or the one by a further key."""
    return Path(f"{signed}.{key}.minisig" if key else f"{signed}.minisig")
