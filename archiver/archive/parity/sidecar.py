"""A parity sidecar (``docs/format.md``, section 10): how a file is cut, and how its parity is stored.

A file is cut into blocks, which are dealt to groups; each group has parity blocks (``Shape``, which is
arithmetic only). A sidecar is a header, the parity blocks and the header again, so that it can be read from
either end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
from blake3 import blake3

from archiver.archive import layout
from archiver.archive.packs import format as pack_format
from archiver.archive.records import FORMAT, Features, canonical, parse_record
from archiver.digest import HexDigest, blake3_hex
from archiver.errors import DamageError, UnknownFormatError, UsageError

if TYPE_CHECKING:
    from archiver.storage.store import Reader, Staged


PARITY_DEFAULT: Final = 2
"""Parity blocks of a group where neither the policy nor anybody says how many."""
BLOCK_MAX: Final = 1 << 20
BLOCK_LEAST: Final = 4096
"""The smallest block that is written: what a disk loses at least. Any power of two is read."""
PARITY_MAX: Final = 128
MEMBERS_MAX: Final = 256
"""Data and parity blocks of one group together: the field has no more elements."""


class Shape(NamedTuple):
    """A file of ``size`` bytes in blocks of ``block`` bytes; each group has ``parity`` blocks more."""

    size: int
    block: int
    groups: int
    parity: int

    @property
    def data_count(self) -> int:
        """Return how many data blocks there are."""
        return -(-self.size // self.block)

    @property
    def parity_count(self) -> int:
        """Return how many parity blocks there are."""
        return self.groups * self.parity

    @property
    def parity_bytes(self) -> int:
        """Return how many bytes the parity blocks take."""
        return self.parity_count * self.block

    def members(self, group: int) -> range:
        """Return the numbers of a group's data blocks, in file order."""
        return range(group, self.data_count, self.groups)

    def parity_of(self, group: int) -> range:
        """Return the numbers of a group's parity blocks among all parity blocks."""
        return range(group * self.parity, (group + 1) * self.parity)

    def length(self, index: int) -> int:
        """Return how many bytes of data block ``index`` are the file's; the rest are zeros."""
        return min(self.block, self.size - index * self.block)

    @property
    def fault(self) -> str:
        """Return why no file can be so shaped, as the rest of a sentence; empty if one can."""
        if self.size < 1 or not 1 <= self.block <= BLOCK_MAX or self.block & (self.block - 1):
            return "has blocks of an impossible size"
        if not 1 <= self.parity <= PARITY_MAX or not 1 <= self.groups <= self.data_count:
            return "has an impossible number of groups or of parity blocks"
        if -(-self.data_count // self.groups) + self.parity > MEMBERS_MAX:
            return "has groups of more blocks than there can be"
        return "" if self.parity_bytes < 1 << 32 else "has more parity than a frame can hold"


def check_choice(parity: int, group: int) -> None:
    """Raise UsageError unless groups of ``group`` data blocks can have ``parity`` parity blocks each."""
    if not 1 <= parity <= PARITY_MAX or group < 1 or group + parity > MEMBERS_MAX:
        raise UsageError(
            f"There is no parity of {parity} blocks for each {group}.",
            hint=f"Take 1 to {PARITY_MAX} parity blocks, and at most {MEMBERS_MAX} blocks together.",
        )


def shape_of(size: int, parity: int, group: int) -> Shape:
    """Return the shape that this version gives a file of ``size`` bytes; UsageError as ``check_choice``."""
    check_choice(parity, group)
    block = BLOCK_LEAST
    while block < BLOCK_MAX and block * group < size:
        block *= 2
    shape = Shape(size, block, -(-size // (block * group)), parity)
    if shape.fault:
        raise UsageError(f"A file of {size:,} bytes {shape.fault} with {parity} for each {group}.")
    return shape


HEADER_MAX: Final = 64 << 20
_DIGEST: Final = 32
_PIECE: Final = BLOCK_MAX


class ParityHeader(msgspec.Struct, frozen=True):
    """What a sidecar says of the file it belongs to, and of its own blocks."""

    archive: str
    file: str
    size: int
    blake3: HexDigest
    block: int
    groups: int
    parity: int
    data: tuple[HexDigest, ...]
    blocks: tuple[HexDigest, ...]
    kind: str = "parity"
    format: int = FORMAT
    features: Features = Features()

    @property
    def shape(self) -> Shape:
        """Return how the file is cut."""
        return Shape(self.size, self.block, self.groups, self.parity)


class Sidecar(NamedTuple):
    """An open sidecar whose header could be read.

    ``faults`` says what is wrong around its blocks: it can help all the same.
    """

    reader: Reader
    header: ParityHeader
    at: int
    """Where its first parity block begins."""
    faults: tuple[str, ...]

    def block(self, index: int, buffer: memoryview) -> bool:
        """Read parity block ``index`` into ``buffer``; return whether it is good."""
        return read_block(
            self.reader, self.at + index * self.header.block, buffer, self.header.blocks[index]
        )

    def bad_blocks(self) -> list[int]:
        """Return the numbers of the parity blocks that are damaged or missing; reads them all."""
        buffer = memoryview(bytearray(self.header.block))
        return [i for i in range(len(self.header.blocks)) if not self.block(i, buffer)]


def read_block(reader: Reader, offset: int, buffer: memoryview, digest: str) -> bool:
    """Fill ``buffer`` from ``offset``, with zeros behind the file's end; return whether it has this digest.

    What the medium cannot read is not good.
    """
    try:
        count = reader.read_into(offset, buffer)
    except DamageError:
        return False
    if count < len(buffer):
        buffer[count:] = bytes(len(buffer) - count)
    return blake3_hex(buffer) == digest


def write_sidecar(out: Staged, header: ParityHeader, blocks: Reader) -> None:
    """Write a whole sidecar to ``out``; ``blocks`` holds its parity blocks, in order."""
    frame = _header_frame(header)
    out.write(frame)
    size = header.shape.parity_bytes
    out.write(pack_format.prefix(pack_format.PARITY_BLOCKS, size))
    piece = memoryview(bytearray(min(_PIECE, size)))
    for at in range(0, size, len(piece)):
        part = piece[: size - at]
        if blocks.read_into(at, part) != len(part):
            raise DamageError("Parity blocks that were just written cannot be read back.")
        out.write(part)
    out.write(frame)
    out.write(pack_format.trailer(len(frame) + pack_format.PREFIX_SIZE + size))


def _header_frame(header: ParityHeader) -> bytes:
    text = canonical(header)
    return pack_format.skippable(pack_format.PARITY_HEADER, blake3(text).digest() + text)


def read_sidecar(reader: Reader, name: str) -> Sidecar:
    """Return the sidecar stored as ``name``.

    Raises:
        DamageError: Neither of its headers can be read, or they are those of another sidecar.
        UnknownFormatError: It has a format, or a feature, that this version does not know.
    """
    first, second = _payload_at(reader, 0), _last_payload(reader)
    payload = first or second
    if payload is None:
        raise DamageError(f"{name} has lost both of its headers.", path=name)
    header = parse_record(payload[_DIGEST:], ParityHeader, name)
    _require_known(header, name)
    _require_sound(header, name)
    at = pack_format.PREFIX_SIZE + len(payload) + pack_format.PREFIX_SIZE
    faults = [
        *(["its first header is damaged"] if first is None else []),
        *(["its second header cannot be reached from its end"] if second != payload else []),
        *_frame_faults(reader, header, at, len(payload)),
    ]
    return Sidecar(reader, header, at, tuple(faults))


def _frame_faults(reader: Reader, header: ParityHeader, at: int, payload: int) -> list[str]:
    size = header.shape.parity_bytes
    whole = at + size + pack_format.PREFIX_SIZE + payload + pack_format.TRAILER_SIZE
    faults = []
    if reader.size != whole:
        faults.append(f"it has {reader.size:,} bytes instead of {whole:,}")
    prefix = _read(reader, at - pack_format.PREFIX_SIZE, pack_format.PREFIX_SIZE)
    if prefix is None or pack_format.read_prefix(prefix) != (pack_format.PARITY_BLOCKS, size):
        faults.append("the frame of its parity blocks is damaged")
    return faults


def _require_known(header: ParityHeader, name: str) -> None:
    if header.format != FORMAT or header.features.read:
        raise UnknownFormatError(
            f"{name} has a format or a feature that this version does not know.",
            hint="Use a newer archiver, or remove the sidecar: nothing else needs it.",
        )


def _require_sound(header: ParityHeader, name: str) -> None:
    """Raise DamageError for a header that contradicts itself or its sidecar's name: it leads nowhere."""
    shape = header.shape
    fault = shape.fault
    if not fault and (len(header.data), len(header.blocks)) != (
        shape.data_count,
        shape.parity_count,
    ):
        fault = "has another number of digests than of blocks"
    digest = layout.digest_of(header.file)
    if not fault and (digest is None or layout.parity_name(digest) != name):
        fault = "belongs to another file than its name says"
    if fault:
        raise DamageError(f"{name} {fault}.", path=name)


def _read(reader: Reader, offset: int, size: int) -> bytearray | None:
    """Return so many bytes, or None if they are not all there."""
    if offset < 0 or offset + size > reader.size:
        return None
    data = bytearray(size)
    try:
        count = reader.read_into(offset, memoryview(data))
    except DamageError:
        return None
    return data if count == size else None


def _payload_at(reader: Reader, offset: int) -> bytes | None:
    """Return the payload of the parity header there, if it is one and has the digest it begins with."""
    prefix = _read(reader, offset, pack_format.PREFIX_SIZE)
    magic, size = pack_format.read_prefix(prefix) if prefix is not None else (0, 0)
    if magic != pack_format.PARITY_HEADER or not _DIGEST < size <= HEADER_MAX:
        return None
    payload = _read(reader, offset + pack_format.PREFIX_SIZE, size)
    if payload is None or blake3(payload[_DIGEST:]).digest() != payload[:_DIGEST]:
        return None
    return bytes(payload)


def _last_payload(reader: Reader) -> bytes | None:
    """Return the payload of the header that the last 16 bytes lead to."""
    last = _read(reader, reader.size - pack_format.TRAILER_SIZE, pack_format.TRAILER_SIZE)
    try:
        return None if last is None else _payload_at(reader, pack_format.read_trailer(last))
    except ValueError:
        return None
