"""Which objects are wanted, and where in which files they stand: so they can be found outside packs."""

from __future__ import annotations

from bisect import bisect_right
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from archiver.archive.packs.frames import PREFIX_SIZE
from archiver.archive.records import canonical
from archiver.archive.tensor_segments import tensors_of
from archiver.codec.segment import Effort, EncodedObject, encode
from archiver.digest import Blake3Hex
from archiver.errors import DamageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from archiver.archive.archive import Archive, Snapshot
    from archiver.archive.records import FileEntry, Source
    from archiver.codec.zstd import Bytes


class Place(NamedTuple):
    """Where an object stands: in a file of a revision, ``offset`` bytes from its beginning."""

    title: str
    source: Source
    entry: FileEntry
    offset: int


class Need(msgspec.Struct, frozen=True):
    """An object that is wanted.

    Attributes:
        digest: Its BLAKE3.
        size: Its plain bytes.
        dtype: That of the tensor that it is a part of.
        places: Where it stands in files.
        stored: The bytes that it took in the pack that is to be made again, header included; 0 if
            that is not known.
    """

    digest: str
    size: int
    dtype: str | None = None
    places: tuple[Place, ...] = ()
    stored: int = 0

    def encoded(self, plain: Bytes) -> EncodedObject:
        """The object, encoded as it was before if that can be told from its size."""
        digest = Blake3Hex(self.digest)
        best = encode(plain, self.dtype, Effort.NORMAL, digest)
        if self.stored and _stored(best) != self.stored:
            other = encode(plain, self.dtype, Effort.FAST, digest)
            return other if _stored(other) == self.stored else best
        return best


def _stored(item: EncodedObject) -> int:
    return PREFIX_SIZE + len(canonical(item.header)) + item.stored


def needs_of(
    archive: Archive, snapshots: Iterable[Snapshot], held: Callable[[str], bool]
) -> dict[str, Need]:
    """The objects that the snapshots name and that are not ``held``, in file order."""
    found: dict[str, list[Place]] = {}
    sizes: dict[str, int] = {}
    for snapshot in snapshots:
        try:
            manifest = archive.manifest(snapshot.seal)
        except DamageError:
            continue  # nobody knows what it needs; its packs stay where they are
        for entry in manifest.files:
            offset = 0
            for size, digest in entry.segments:
                if digest in found or not held(digest):
                    place = Place(snapshot.title, manifest.source, entry, offset)
                    found.setdefault(digest, []).append(place)
                    sizes[digest] = size
                offset += size
    return {
        digest: Need(digest, sizes[digest], _dtype(places[0]), tuple(places))
        for digest, places in found.items()
    }


def _dtype(place: Place) -> str | None:
    """The dtype of the tensor that begins at or before the place; None outside of tensors."""
    tensors = tensors_of(place.entry)
    at = bisect_right(tensors, place.offset, key=attrgetter("begin")) - 1
    # Of several that begin here all but the last are empty.
    return tensors[at].dtype if at >= 0 and place.offset < tensors[at].end else None
