"""Small archives and packs to try, spoil and read back."""

from pathlib import Path

import numpy as np
from kit.archive import NoHints
from kit.repository import bf16, noise

from archiver.archive.archive import Archive
from archiver.archive.ingest.object_store import ObjectStore
from archiver.archive.packs.reader import PackReader
from archiver.archive.packs.writer import PackWriter
from archiver.archive.records import FileEntry, Source
from archiver.codec.segment import Effort, encode
from archiver.digest import blake3_hex

REVISION = "0123456789abcdef0123456789abcdef01234567"
OTHER = "fedcba9876543210fedcba9876543210fedcba98"


def array(data: bytes) -> np.ndarray:
    return np.frombuffer(bytearray(data), np.uint8)


PLAINS = [b"{}\n", bf16(1, 4000), b"text " * 300, bf16(2, 3001) + b"\x07", noise(3, 2000)]


def write_pack(archive: Archive, plains: list[bytes] = PLAINS) -> str:
    """A published pack of these contents."""
    writer = PackWriter(archive.store, archive.info)
    for plain in plains:
        writer.append(encode(array(plain), "BF16", Effort.NORMAL))
    return writer.finish()[0]


def pack_path(root: Path, pack: str) -> Path:
    return root / "packs" / pack[:2] / f"{pack}.pack"


def reading(path: Path, archive: Archive) -> PackReader:
    """A reader of any file below the archive's folder."""
    name = path.relative_to(archive.store.folder.path).as_posix()
    return PackReader(archive.store.open(name), "The pack")


def source(repository: str = "Org/Model", revision: str = REVISION) -> Source:
    return Source("directory", "", repository, revision)


def entry_of(path: str, plains: list[bytes]) -> FileEntry:
    import hashlib

    whole = b"".join(plains)
    return FileEntry(
        path=path,
        size=len(whole),
        sha256=hashlib.sha256(whole).hexdigest(),
        blake3=blake3_hex(whole),
        segments=tuple((len(plain), blake3_hex(plain)) for plain in plains),
    )


def object_store(archive: Archive, hints=None, packs: int = 1) -> ObjectStore:
    return ObjectStore(archive, Effort.FAST, hints or NoHints(), packs=packs)


def store_all(archive: Archive, plains: list[bytes]) -> ObjectStore:
    """A flushed store that holds these contents."""
    objects = object_store(archive)
    for plain in plains:
        objects.put(array(plain), "BF16")
    objects.flush()
    objects.close()
    return objects
