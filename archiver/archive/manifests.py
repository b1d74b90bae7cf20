"""The manifests of an archive: checked against the seals that name them, and stored."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import zstandard

from archiver.archive import layout
from archiver.archive.advice import Advice
from archiver.archive.identity import WINDOW_MAX
from archiver.archive.records import MANIFEST_MAX, Manifest, canonical, parse_record, require_known
from archiver.digest import Blake3Hex, blake3_hex, is_blake3
from archiver.errors import ArchiverError, DamageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.archive.finding import Code
    from archiver.archive.records import Seal
    from archiver.storage.store import Store

_LEVEL: Final = 9
"""Of Zstandard."""


class Manifests:
    """The manifests in one store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def read(self, seal: Seal) -> Manifest:
        """The manifest that a seal names; DamageError if it is missing or damaged."""
        with self._advising(seal):
            return self._read(seal)

    def read_at(self, seal: Seal, where: str) -> Manifest:
        """As ``read``, from the stored file ``where``, which may be out of use."""
        return self._read(seal, where)

    @contextmanager
    def _advising(self, seal: Seal) -> Iterator[None]:
        """Damage of a seal's manifest says what to do next."""
        try:
            yield
        except DamageError as error:
            name = _name(seal)
            title = f"{seal.repository}@{seal.revision[:12]}"
            there = self._store.stat(name) is not None
            code: Code = "manifest-damaged" if there else "manifest-missing"
            error.hint = Advice(self._store.describe()).copy_back(name, code, title)
            raise

    def _read(self, seal: Seal, where: str = "") -> Manifest:
        what = f"The manifest {where or _name(seal)}"
        manifest = parse_record(self._plain(seal, where), Manifest, what)
        require_known(what, manifest.format)
        source = manifest.source
        if (source.repository, source.revision) != (seal.repository, seal.revision):
            raise DamageError(f"{what} is of another repository or revision than its seal.")
        for entry in manifest.files:
            sizes = [size for size, _ in entry.segments]
            named = all(is_blake3(digest) for _, digest in entry.segments)
            if not named or sum(sizes) != entry.size or min(sizes, default=1) <= 0:
                raise DamageError(f"{what} lists segments of {entry.path!r} that do not make it.")
        return manifest

    def plain(self, seal: Seal) -> bytes:
        """The canonical JSON of the manifest that a seal names, checked; DamageError as above."""
        with self._advising(seal):
            return self._plain(seal)

    def _plain(self, seal: Seal, where: str = "") -> bytes:
        name = where or _name(seal)
        plain = self._unpack(name, seal.manifest.size)
        if blake3_hex(plain) != seal.manifest.blake3:
            raise DamageError(f"The manifest {name} is damaged: its bytes have another digest.")
        return plain

    def _unpack(self, name: str, size: int) -> bytes:
        try:
            data = self._store.get(name, MANIFEST_MAX)
            if zstandard.frame_content_size(data) != size or not 0 < size <= MANIFEST_MAX:
                raise DamageError(f"The manifest {name} has not the size its seal names.")
            return zstandard.ZstdDecompressor(max_window_size=WINDOW_MAX).decompress(data)
        except FileNotFoundError:
            raise DamageError(f"The manifest {name} is missing.") from None
        except zstandard.ZstdError as error:
            raise DamageError(f"The manifest {name} is damaged: {error}.") from error

    def publish(self, manifest: Manifest) -> tuple[Blake3Hex, int]:
        """Store a manifest; its digest and plain size in bytes."""
        plain = canonical(manifest)
        if len(plain) > MANIFEST_MAX:
            raise ArchiverError("The manifest would be larger than 1 GiB; mirror in parts.")
        digest = blake3_hex(plain)
        source = manifest.source
        packed = zstandard.ZstdCompressor(_LEVEL, write_checksum=True).compress(plain)
        name = layout.manifest_name(source.repository, source.revision, digest)
        if not self._store.put_new(name, packed):
            self._require_whole(name, plain)
        return digest, len(plain)

    def _require_whole(self, name: str, plain: bytes) -> None:
        """Raise DamageError unless the manifest that was there already still says the same."""
        try:
            same = self._unpack(name, len(plain)) == plain
        except DamageError:
            same = False
        if not same:
            raise DamageError(
                f"The manifest {name} is there already, and it is damaged.",
                hint="Copy it back from another copy of the archive, or delete it, and run again.",
            )


def _name(seal: Seal) -> str:
    return layout.manifest_name(seal.repository, seal.revision, seal.manifest.blake3)
