"""What a pack says about itself: its head, its index, and how large a part of it may be."""

from __future__ import annotations

from typing import Final

import msgspec

from archiver.archive.packs import frames
from archiver.archive.records import FORMAT, ArchiveInfo, Features, canonical
from archiver.codec.segment import HexDigest
from archiver.tensors.header import Count

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
    return frames.skippable(frames.HEAD, canonical(head))
