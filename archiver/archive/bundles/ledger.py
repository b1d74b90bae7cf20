"""The ledger: which bundles came into an archive or went out of it, and what waits for further volumes.

::

    bundles/sent/<bundle>.json                    a bundle that was made here: its bundle.json
    bundles/received/<bundle>.json                a bundle of which a volume came in: likewise
    bundles/received/<bundle>/volume-0003.json    a volume that was taken in: its volume.json
    bundles/waiting/<bundle>/…                    documents and pieces that wait for the rest of it
    bundles/claims/<bundle>/…                     what its journal says: the other side's word
    bundles/receipts/<receipt>.json               a receipt that was written here

None of it is needed to restore. A file's name has the digest of what is in it, or it stands in a folder
that has; so what was written here once is never contradicted in silence.
"""

from __future__ import annotations

import re
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from archiver.archive import layout
from archiver.archive.bundles.records import (
    DOCUMENT_MAX,
    Bundle,
    Volume,
    folder_of,
    parse_bundle,
    parse_volume,
)
from archiver.archive.receipts import RECEIPT_MAX, parse_receipt
from archiver.digest import Blake3Hex, blake3_hex
from archiver.errors import ArchiverError, DamageError
from archiver.storage.files import require_no_links
from archiver.storage.local import LocalStore
from archiver.storage.store import local_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.archive.receipts import Receipt
    from archiver.storage.store import Store

_SENT: Final = f"{layout.BUNDLES}/sent"
_RECEIVED: Final = f"{layout.BUNDLES}/received"
_WAITING: Final = f"{layout.BUNDLES}/waiting"
_CLAIMS: Final = f"{layout.BUNDLES}/claims"
_RECEIPTS: Final = f"{layout.BUNDLES}/receipts"
_NAME: Final = re.compile(rf"{layout.BUNDLES}/(?:sent|received)/([0-9a-f]{{64}})\.json\Z")


class Ledger:
    """The ledger of one archive, a folder of this machine."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def sent(self) -> Iterator[Bundle]:
        """Return the bundles that were made here; one that cannot be read is passed over."""
        for name in self._store.list(_SENT):
            with suppress(ArchiverError, FileNotFoundError):
                yield self._bundle(name)

    def received(self) -> list[str]:
        """Return the ids of the bundles of which something came in."""
        names = (_NAME.match(name) for name in self._store.list(_RECEIVED))
        return sorted(match[1] for match in names if match)

    def archives(self) -> set[str]:
        """Return the ids of the archives that bundles came from."""
        bundles = (self.bundle(bundle) for bundle in self.received())
        return {bundle.archive for bundle in bundles if bundle is not None}

    def bundle(self, bundle: str) -> Bundle | None:
        """Return a bundle of which something came in; None if nothing did, or its note cannot be read."""
        try:
            return self._bundle(self.note_of(bundle))
        except (ArchiverError, FileNotFoundError):
            return None

    @staticmethod
    def note_of(bundle: str) -> str:
        """Return the name of the note that something of a bundle came in."""
        return f"{_RECEIVED}/{bundle}.json"

    def _bundle(self, name: str) -> Bundle:
        data = self._store.get(name, DOCUMENT_MAX)
        match = _NAME.match(name)
        if match is None or blake3_hex(data) != match[1]:
            raise DamageError(f"{name} is damaged: its bytes have another digest.", path=name)
        return parse_bundle(data, name)

    def note_sent(self, bundle: Bundle) -> None:
        """Note that a bundle was made; an archive that cannot be written to goes without."""
        with suppress(ArchiverError):
            self._store.put_new(f"{_SENT}/{bundle.id}.json", bundle.data)

    def note_received(self, bundle: Bundle) -> bool:
        """Note that a bundle begins to come in; return whether nothing of it had come before."""
        return self._store.put_new(self.note_of(bundle.id), bundle.data)

    def note_receipt(self, receipt: str, data: bytes) -> None:
        """Note that a receipt was written here; an archive that cannot be written to goes without."""
        with suppress(ArchiverError):
            self._store.put_new(f"{_RECEIPTS}/{receipt}.json", data)

    def receipts(self) -> Iterator[Receipt]:
        """Return the receipts that were written here; one that cannot be read is passed over."""
        for name in self._store.list(_RECEIPTS):
            with suppress(ArchiverError, FileNotFoundError):
                yield parse_receipt(self._store.get(name, RECEIPT_MAX), name)

    def newest_receipt(self) -> Receipt | None:
        """Return the newest receipt that was written here; None if none was."""
        return max(self.receipts(), key=lambda receipt: receipt.time, default=None)

    def volume(self, bundle: Blake3Hex | str, number: int) -> Volume | None:
        """Return a volume as it came in; None if it did not, or if the note of it cannot be read."""
        name = self._volume_name(bundle, number)
        try:
            return parse_volume(self._store.get(name, DOCUMENT_MAX), name)
        except (ArchiverError, FileNotFoundError):
            return None

    def volumes(self, bundle: str) -> list[int]:
        """Return the numbers of the volumes of a bundle that came in, each in full."""
        names = (name.rpartition("/")[2] for name in self._store.list(f"{_RECEIVED}/{bundle}"))
        return sorted(
            int(name[7:11]) for name in names if re.fullmatch(r"volume-\d{4}\.json", name)
        )

    def note_volume(self, data: bytes, volume: Volume) -> None:
        """Note that a volume came in; ``data`` is its ``volume.json``."""
        name = self._volume_name(volume.bundle, volume.number)
        if self.volume(volume.bundle, volume.number) is None:
            self._store.remove(name)
            self._store.put_new(name, data)

    @staticmethod
    def _volume_name(bundle: str, number: int) -> str:
        return f"{_RECEIVED}/{bundle}/{folder_of(number)}.json"

    def waiting(self, bundle: str) -> LocalStore:
        """Return where documents and pieces of a bundle wait: a small archive of its own.

        Names there, and among the claims, last from the next ``barrier`` on: there may be thousands.
        """
        return self._inside(f"{_WAITING}/{bundle}")

    def claims(self, bundle: str) -> LocalStore:
        """Return where a bundle's part of the other side's journal is kept."""
        return self._inside(f"{_CLAIMS}/{bundle}")

    def _inside(self, name: str) -> LocalStore:
        """Return a store in a folder of the archive; LinkedFolderError if a link leads out of it."""
        root = local_folder(self._store).path
        require_no_links(root / name / "any", root)
        return LocalStore(root / name, deferred=True)

    def end_waiting(self, bundle: str) -> None:
        """Remove what waited: all of it is in its place now."""
        folder = self.waiting(bundle).path
        if folder.is_dir() and not folder.is_symlink():
            shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):
            folder.parent.rmdir()
