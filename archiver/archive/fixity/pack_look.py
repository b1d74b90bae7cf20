"""Looking at a pack without decoding an object: its ends alone, or its digest as well."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from blake3 import blake3

from archiver.archive.fixity.pack_state import PackState
from archiver.archive.packs.reader import PackReader
from archiver.archive.records import FORMAT
from archiver.codec.workspace import workspace
from archiver.errors import ArchiverError, DamageError

if TYPE_CHECKING:
    from archiver.archive.fixity.pack_state import Advance
    from archiver.storage.store import Reader

_PIECE: Final = 512 << 10
"""A piece stays in the core's cache between the system's copy and the digest."""


def look_at_pack(reader: Reader) -> PackState:
    """What head and index say; the objects that the index lists count as sound.

    The state has no digest. Whatever is wrong is in ``index``.
    """
    pack, archive, sound, problem = PackReader(reader, "the pack"), "", b"", ""
    try:
        head = pack.head()
        archive = head.archive
        if (head.kind, head.format) != ("pack", FORMAT):
            problem = "its head is not that of a pack of format 1"
        sound = _listed(pack)
    except ArchiverError as error:
        problem = error.message
    return PackState(reader.size, "", archive, sound, (), problem)


def _listed(pack: PackReader) -> bytes:
    entries = pack.index()
    for entry in entries:
        if not 0 <= entry.offset <= entry.offset + entry.stored <= pack.size:
            raise DamageError(f"its index has object {entry.blake3} outside of the pack")
    return bytes.fromhex("".join(entry.blake3 for entry in entries))


def hash_pack(reader: Reader, advance: Advance) -> PackState:
    """As ``look_at_pack``, with the digest of the whole file, read front to back."""
    seen, hasher, unreadable = look_at_pack(reader), blake3(), ""
    try:
        for at in range(0, reader.size, _PIECE):
            piece = workspace().take("stored", min(_PIECE, reader.size - at)).data
            if reader.read_into(at, piece) != len(piece):
                raise DamageError(f"it ends before byte {at + len(piece)}")
            hasher.update(piece)
            advance(len(piece))
    except ArchiverError as error:
        unreadable = error.message
    digest = "" if unreadable else hasher.hexdigest()
    return PackState(
        seen.size, digest, seen.archive, seen.sound, (), seen.index, unreadable=unreadable
    )
