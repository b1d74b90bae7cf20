"""Skippable Zstandard frames: what packs and parity sidecars say (``docs/format.md``, 3 and 10)."""

from __future__ import annotations

import struct
from typing import Final

import msgspec

from archiver.archive.records import FORMAT, ArchiveInfo, Features, canonical
from archiver.codec.segment import HexDigest
from archiver.tensors.header import Count

HEAD: Final = 0x184D2A50
OBJECT: Final = 0x184D2A51
INDEX: Final = 0x184D2A52
TRAILER: Final = 0x184D2A53
PARITY_HEADER: Final = 0x184D2A54
PARITY_BLOCKS: Final = 0x184D2A55

OBJECT_MAGIC: Final = struct.pack("<I", OBJECT)
"""What to search for where a pack's frames are lost."""

_PREFIX = struct.Struct("<II")
_OFFSET = struct.Struct("<Q")
PREFIX_SIZE: Final = _PREFIX.size
TRAILER_SIZE: Final = _PREFIX.size + _OFFSET.size


def prefix(magic: int, size: int) -> bytes:
    """The first 8 bytes of a skippable frame whose payload has ``size`` bytes."""
    return _PREFIX.pack(magic, size)


def skippable(magic: int, payload: bytes) -> bytes:
    """A skippable frame around ``payload``."""
    return prefix(magic, len(payload)) + payload


def read_prefix(data: bytes | bytearray | memoryview) -> tuple[int, int]:
    """Magic and payload size in bytes from a frame's first 8 bytes; ValueError if there are fewer."""
    if len(data) < PREFIX_SIZE:
        raise ValueError("the file ends inside a frame")
    magic, size = _PREFIX.unpack_from(data)
    return magic, size


def trailer(offset: int) -> bytes:
    """The last frame: where a pack's index, or a sidecar's second header, begins."""
    return skippable(TRAILER, _OFFSET.pack(offset))


def read_trailer(data: bytes | bytearray | memoryview) -> int:
    """The offset in the last 16 bytes of a pack or sidecar; ValueError if they are no trailer."""
    if len(data) != TRAILER_SIZE or read_prefix(data) != (TRAILER, _OFFSET.size):
        raise ValueError("the file does not end in a trailer")
    (offset,) = _OFFSET.unpack_from(data, PREFIX_SIZE)
    return int(offset)


# ---- What a pack says about itself: its head, its index, and how large a part of it may be.


HEADER_MAX: Final = 64 << 10
INDEX_MAX: Final = 16 << 20
STORED_MAX: Final = 40 << 20
"""An object of 16 MiB plain cannot take more, whatever the codec."""


class PackHead(msgspec.Struct, frozen=True):
    """A pack's first frame: which archive wrote it."""

    archive: str
    kind: str = "pack"
    format: int = FORMAT
    features: Features = Features()


class IndexEntry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Where an object lies in its pack; offsets and sizes in bytes."""

    blake3: HexDigest
    offset: Count
    stored: Count
    size: Count
    codec: Count


class PackIndex(msgspec.Struct, frozen=True):
    """A pack's last frame but one."""

    objects: tuple[IndexEntry, ...]
    kind: str = "index"


def head_frame(info: ArchiveInfo) -> bytes:
    """The bytes that a pack of this archive begins with."""
    head = PackHead(archive=info.archive, features=info.features)
    return skippable(HEAD, canonical(head))
