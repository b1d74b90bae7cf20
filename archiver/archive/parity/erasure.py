"""The blocks of one file: reading, hashing, coding and recovering them. The one caller of zfec.

Blocks are worked on in slices, so that a group of many takes no more memory than one of few.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from blake3 import blake3

from archiver.archive.parity.sidecar import read_block
from archiver.digest import Blake3Hex
from archiver.errors import DamageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from archiver.archive.parity.sidecar import Shape
    from archiver.storage.store import Reader

_GROUP_BYTES: Final = 32 << 20
"""The slices of one group that are in memory at a time take at most this much."""
_PIECE: Final = 4 << 20


class BlockDigests(NamedTuple):
    """The BLAKE3 of a file as it is stored, and those of its data blocks."""

    blake3: Blake3Hex
    data: tuple[str, ...]


def hash_blocks(reader: Reader, shape: Shape, advance: Callable[[int], None]) -> BlockDigests:
    """Read a file front to back; raise DamageError if it became shorter.

    ``advance`` is told how many bytes were read, and may raise to stop.
    """
    buffer = memoryview(bytearray(min(max(_PIECE, shape.block), shape.data_count * shape.block)))
    whole, digests = blake3(), []
    for at in range(0, shape.size, len(buffer)):
        part = buffer[: min(len(buffer), shape.size - at)]
        if reader.read_into(at, part) != len(part):
            raise DamageError("The file became shorter while it was read.")
        whole.update(part)
        end = -(-len(part) // shape.block) * shape.block
        buffer[len(part) : end] = bytes(end - len(part))
        digests += [
            blake3(buffer[begin : begin + shape.block]).hexdigest()
            for begin in range(0, end, shape.block)
        ]
        advance(len(part))
    return BlockDigests(Blake3Hex(whole.hexdigest()), tuple(digests))


def bad_blocks(reader: Reader | None, shape: Shape, data: Sequence[str]) -> list[int]:
    """Return the numbers of the data blocks that are not what these digests say; all without a file."""
    if reader is None:
        return list(range(shape.data_count))
    buffer = memoryview(bytearray(shape.block))
    return [
        index
        for index, digest in enumerate(data)
        if not read_block(reader, index * shape.block, buffer, digest)
    ]


def _slices(shape: Shape, rows: int) -> range:
    """Return where in each block a slice of a group of ``rows`` blocks begins; the step is its length."""
    step = shape.block
    while step > 1 and step * rows > _GROUP_BYTES:
        step //= 2
    return range(0, shape.block, step)


def encode_group(
    reader: Reader, shape: Shape, group: int, data: Sequence[str], advance: Callable[[int], None]
) -> list[bytes]:
    """Return the parity blocks of one group, in order.

    Raise DamageError unless the blocks they are made of have the digests ``data``.
    """
    members = shape.members(group)
    rows, slices = len(members), _slices(shape, len(members))
    numbers = tuple(range(rows, rows + shape.parity))
    import zfec  # noqa: PLC0415 - hardly any run makes parity

    encoder = zfec.Encoder(rows, rows + shape.parity)
    views = _rows(rows, slices.step)
    hashers = [blake3() for _ in members]
    pieces: list[list[bytes]] = []
    for begin in slices:
        for index, view, hasher in zip(members, views, hashers, strict=True):
            advance(_fill(reader, index * shape.block + begin, view))
            hasher.update(view)
        pieces.append(encoder.encode(views, numbers))
    for index, hasher in zip(members, hashers, strict=True):
        if hasher.hexdigest() != data[index]:
            raise DamageError("The file changed while it was read.")
    return [b"".join(block) for block in zip(*pieces, strict=True)]


def _fill(reader: Reader, offset: int, view: memoryview) -> int:
    """Read from ``offset``, with zeros behind the file's end; return how many bytes were there."""
    count = reader.read_into(offset, view)
    view[count:] = bytes(len(view) - count)
    return count


def _rows(count: int, length: int) -> tuple[memoryview, ...]:
    """Return buffers for the slices of a group."""
    return tuple(row.data for row in np.empty((count, length), np.uint8))


class BlockLocation(NamedTuple):
    """Where a good block of a group lies."""

    reader: Reader
    offset: int


def recover_group(
    good_blocks: Mapping[int, BlockLocation], shape: Shape, rows: int, lost: Sequence[int]
) -> dict[int, bytes]:
    """Return the ``lost`` data blocks of a group of ``rows``, by their numbers within the group.

    ``good_blocks`` are at least ``rows`` blocks by their numbers within the group, parity blocks
    counted on from ``rows``.
    """
    numbers = tuple(sorted(good_blocks)[:rows])
    slices = _slices(shape, rows)
    import zfec  # noqa: PLC0415 - the same

    decoder = zfec.Decoder(rows, rows + shape.parity)
    views = _rows(rows, slices.step)
    pieces: dict[int, list[bytes]] = {number: [] for number in lost}
    for begin in slices:
        for number, view in zip(numbers, views, strict=True):
            block = good_blocks[number]
            _fill(block.reader, block.offset + begin, view)
        # The blocks that are there come back as the views that are filled anew: only the lost are kept.
        decoded = decoder.decode(views, numbers)
        for number, slices_of_block in pieces.items():
            slices_of_block.append(decoded[number])
    return {number: b"".join(parts) for number, parts in pieces.items()}
