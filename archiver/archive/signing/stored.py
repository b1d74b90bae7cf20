"""The signatures that an archive has: reading one, and which documents have one by a trusted key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archiver.archive import layout
from archiver.archive.signing.document import signed_bytes
from archiver.archive.signing.minisign import (
    FILE_MAX,
    PublicKey,
    Signature,
    parse_public_key,
    parse_signature,
)
from archiver.errors import ArchiverError, DamageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from archiver.archive.archive import Snapshot
    from archiver.storage.store import Store


def read_signature(store: Store, name: str) -> Signature:
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
        read_signature(store, at).verify(key, signed_bytes(store, name))
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
