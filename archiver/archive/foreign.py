"""Files in the folder that no archive has: what they are, and which of them keep prune from deciding.

Operating systems and programs leave files beside others (``._x``, ``.DS_Store``). Nothing reads those. A
seal under a name that is not a seal's is another matter: it may be the only word of what must stay.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple

from archiver.archive import archive, layout
from archiver.archive.records import SEAL_MAX, Seal, parse_record
from archiver.digest import blake3_hex
from archiver.errors import ArchiverError, DamageError, UsageError
from archiver.storage.store import check_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.storage.store import Store

_WORKING: Final = tuple(f"{folder}/" for folder in (layout.TMP, layout.QUARANTINE, layout.TRASH))
"""Folders whose content is out of use."""
_LITTER_NAMES: Final = frozenset(
    {".ds_store", ".localized", ".directory", ".nomedia", "thumbs.db", "ehthumbs.db", "desktop.ini"}
)
_LITTER_STARTS: Final = ("._", ".nfs", ".fuse_hidden", ".smbdelete", ".~lock.", ".apdisk")
_LITTER_FOLDERS: Final = frozenset(
    {"lost+found", "@eadir", "#recycle", "$recycle.bin", "system volume information", ".trashes",
     ".spotlight-v100", ".fseventsd", ".appledouble", ".temporaryitems", ".snapshot", "__macosx"}
)  # fmt: skip

_TRASH: Final = ".trash-"
"""How a desktop's trash on a removable disk begins; the user's number follows."""
_DOCUMENT: Final = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?\.[0-9a-f]{64}")


class ForeignKind(Enum):
    """What a foreign file is."""

    LITTER = "litter"
    """An operating system, a file server or a desktop puts such files beside others."""
    SEAL = "seal"
    """It holds a seal that is not there under its own name."""
    UNREADABLE = "unreadable"
    """It lies among the seals, and whether it is one cannot be read."""
    OTHER = "other"


class ForeignFile(NamedTuple):
    """A file that no archive has; of a seal also the name that it should have, and what it seals."""

    name: str
    kind: ForeignKind
    own_name: str = ""
    title: str = ""

    @property
    def stops_prune(self) -> bool:
        """Whether it may say that something is needed which no other file says."""
        return self.kind in {ForeignKind.SEAL, ForeignKind.UNREADABLE}


def foreign_files(store: Store, prefix: str = "") -> Iterator[ForeignFile]:
    """Yield the files below a folder of the archive, ``""`` for all of it, that no archive has."""
    for name in store.list(prefix):
        if not _is_own(name):
            yield _classified(store, name)


def is_litter(name: str) -> bool:
    """Return whether a system puts files of this name, or into this folder, beside others."""
    *folders, base = name.casefold().split("/")
    return (
        base in _LITTER_NAMES
        or base.startswith(_LITTER_STARTS)
        or not _LITTER_FOLDERS.isdisjoint(folders)
        or any(folder.startswith(_TRASH) for folder in folders)
    )


def _is_own(name: str) -> bool:
    """Return whether an archive has files of this name, or one of a later version may have them."""
    return (
        name in {layout.INFO, layout.PLACE}
        or name in archive.CARRIED
        or name.startswith((layout.CATALOGUE, *_WORKING))
        or layout.is_reserved(name)
        or layout.digest_of(name) is not None
        or layout.parity_of(name) is not None
        or layout.signature_of(name) is not None
    )


def _classified(store: Store, name: str) -> ForeignFile:
    if is_litter(name):
        return ForeignFile(name, ForeignKind.LITTER)
    if not name.startswith(f"{layout.SNAPSHOTS}/"):
        return ForeignFile(name, ForeignKind.OTHER)
    try:
        return _by_content(store, check_name(name))
    except ArchiverError:
        return _by_name(store, name)


def _by_name(store: Store, name: str) -> ForeignFile:
    """Classify a file that no store can open: programs add to a name, and leave what it was."""
    folder, _, base = name.rpartition("/")
    before = _DOCUMENT.search(base.lower())
    own_name = f"{folder}/{before[0]}.json" if before else ""
    if before is None or not layout.document_of(own_name) or store.stat(own_name) is not None:
        return ForeignFile(name, ForeignKind.OTHER)
    return ForeignFile(name, ForeignKind.SEAL, own_name, f"a revision {before[0][:12]}")


def _by_content(store: Store, name: str) -> ForeignFile:
    other = ForeignFile(name, ForeignKind.OTHER)
    try:
        size = store.stat(name)
        if size is None or size > SEAL_MAX:
            return other
        data = store.get(name, SEAL_MAX)
    except FileNotFoundError:
        return other
    except ArchiverError:
        return ForeignFile(name, ForeignKind.UNREADABLE)
    try:
        seal = parse_record(data, Seal, name)
        own_name = layout.seal_name(seal.repository, seal.revision, blake3_hex(data))
    except (DamageError, UsageError):
        return other
    if store.stat(own_name) is not None:
        return other
    return ForeignFile(name, ForeignKind.SEAL, own_name, f"{seal.repository}@{seal.revision[:12]}")
