"""The documents of an archive that are signed, and the bytes of each that a signature covers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archiver.archive import layout
from archiver.archive.journal import EVENT_MAX
from archiver.archive.manifest_file import decompressed
from archiver.archive.records import MANIFEST_MAX, SEAL_MAX
from archiver.digest import blake3_hex
from archiver.errors import DamageError

if TYPE_CHECKING:
    from collections.abc import Iterator

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
