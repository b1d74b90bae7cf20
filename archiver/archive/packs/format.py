"""The bytes of a pack (``docs/format.md``, section 3).

::

    [head] [object header, Zstandard frames]… [index] [trailer]

All but the objects' own frames are *skippable* frames: eight bytes of magic and length, then a payload,
which every tool that knows Zstandard passes over. Parity sidecars (section 10) are made of the same.
"""

from __future__ import annotations

import struct
from typing import Final

import msgspec

from archiver.archive.records import FORMAT, ArchiveInfo, Features, canonical
from archiver.codec.segment import ObjectHeader
from archiver.digest import HexDigest
from archiver.tensors.header import Count

HEAD: Final = 0x184D2A50
OBJECT: Final = 0x184D2A51
INDEX: Final = 0x184D2A52
TRAILER: Final = 0x184D2A53
PARITY_HEADER: Final = 0x184D2A54
PARITY_BLOCKS: Final = 0x184D2A55

OBJECT_MAGIC: Final = struct.pack("<I", OBJECT)
"""What to search for where a pack's frames are lost,"""
INDEX_MAGIC: Final = struct.pack("<I", INDEX)
"""and where its trailer is."""

HEADER_MAX: Final = 64 << 10
"""The JSON of a head or of an object header has at most this many bytes,"""
INDEX_MAX: Final = 16 << 20
"""and that of an index this many."""
PACK_MAX: Final = (1 << 32) - 1
"""A pack has at most this many bytes: what the filesystem FAT can hold."""
STORED_MAX: Final = 40 << 20
"""An object of 16 MiB plain cannot take more, whatever the codec."""

_PREFIX = struct.Struct("<II")
_OFFSET = struct.Struct("<Q")
PREFIX_SIZE: Final = _PREFIX.size
TRAILER_SIZE: Final = _PREFIX.size + _OFFSET.size


def prefix(magic: int, size: int) -> bytes:
    """Return the first 8 bytes of a skippable frame whose payload has ``size`` bytes."""
    return _PREFIX.pack(magic, size)


def skippable(magic: int, payload: bytes) -> bytes:
    """Return a skippable frame around ``payload``."""
    return prefix(magic, len(payload)) + payload


def read_prefix(data: bytes | bytearray | memoryview) -> tuple[int, int]:
    """Return magic and payload size from a frame's first 8 bytes; raise ValueError if there are fewer."""
    if len(data) < PREFIX_SIZE:
        raise ValueError("the file ends inside a frame")
    magic, size = _PREFIX.unpack_from(data)
    return magic, size


def trailer(offset: int) -> bytes:
    """Return the last frame: where a pack's index, or a sidecar's second header, begins."""
    return skippable(TRAILER, _OFFSET.pack(offset))


def read_trailer(data: bytes | bytearray | memoryview) -> int:
    """Return the offset in the last 16 bytes of a pack or sidecar; raise ValueError if they are none."""
    if len(data) != TRAILER_SIZE or read_prefix(data) != (TRAILER, _OFFSET.size):
        raise ValueError("the file does not end in a trailer")
    (offset,) = _OFFSET.unpack_from(data, PREFIX_SIZE)
    return int(offset)


class PackHead(msgspec.Struct, frozen=True):
    """A pack's first frame: which archive wrote it."""

    archive: str
    kind: str = "pack"
    format: int = FORMAT
    features: Features = Features()


class IndexEntry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Where an object lies in its pack, and all that decoding takes; offsets and sizes in bytes.

    Entries of older packs end with the codec, and so do those that only say where an object lies: their
    objects are decoded by their headers.
    """

    blake3: HexDigest
    offset: Count
    stored: Count
    size: Count
    codec: Count
    frames: tuple[Count, ...] = ()
    emax: int | None = None
    tail: str = ""

    @classmethod
    def of(cls, header: ObjectHeader, offset: int, stored: int) -> IndexEntry:
        """Return the entry of an object that takes ``stored`` bytes from ``offset`` on."""
        emax = None if isinstance(header.emax, msgspec.UnsetType) else header.emax
        return cls(
            header.blake3,
            offset,
            stored,
            header.size,
            header.codec,
            header.frames,
            emax,
            header.tail,
        )

    @property
    def header(self) -> ObjectHeader | None:
        """What the object's own header says; None if this does not tell, or contradicts itself."""
        if not self.frames or sum(self.frames) > self.stored - PREFIX_SIZE:
            return None
        emax = msgspec.UNSET if self.emax is None else self.emax
        return ObjectHeader(self.blake3, self.size, self.codec, self.frames, emax, self.tail)

    @property
    def place(self) -> ShortEntry:
        """The five elements that every index has."""
        return (self.blake3, self.offset, self.stored, self.size, self.codec)


ShortEntry = tuple[str, int, int, int, int]
"""An entry as older writers made it, without what decoding takes."""


class PackIndex(msgspec.Struct, frozen=True):
    """A pack's last frame but one."""

    objects: tuple[IndexEntry, ...]
    kind: str = "index"


def head_frame(info: ArchiveInfo) -> bytes:
    """Return the bytes that a pack of this archive begins with: features of a pack are its own."""
    return skippable(HEAD, canonical(PackHead(archive=info.archive)))
