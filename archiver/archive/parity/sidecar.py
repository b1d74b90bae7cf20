"""A parity sidecar as a file (``docs/format.md``, section 10): written once, read from either end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
from blake3 import blake3

from archiver.archive import layout
from archiver.archive.packs import frames
from archiver.archive.parity.geometry import BLOCK_MAX, Shape
from archiver.archive.records import FORMAT, Features, canonical, parse_record
from archiver.codec.segment import HexDigest
from archiver.digest import blake3_hex
from archiver.errors import DamageError, UnknownFormatError

if TYPE_CHECKING:
    from archiver.storage.store import Reader, Staged

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
        """How the file is cut."""
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
        """Read parity block ``index`` into ``buffer``; whether it is good."""
        return read_block(
            self.reader, self.at + index * self.header.block, buffer, self.header.blocks[index]
        )

    def bad_blocks(self) -> list[int]:
        """The numbers of the parity blocks that are damaged or missing; reads them all."""
        buffer = memoryview(bytearray(self.header.block))
        return [i for i in range(len(self.header.blocks)) if not self.block(i, buffer)]


def read_block(reader: Reader, offset: int, buffer: memoryview, digest: str) -> bool:
    """Fill ``buffer`` from ``offset``, with zeros behind the file's end; whether it has this digest.

    What the medium cannot read is not good.
    """
    try:
        got = reader.read_into(offset, buffer)
    except DamageError:
        return False
    if got < len(buffer):
        buffer[got:] = bytes(len(buffer) - got)
    return blake3_hex(buffer) == digest


def write_sidecar(out: Staged, header: ParityHeader, blocks: Reader) -> None:
    """Write a whole sidecar to ``out``; ``blocks`` holds its parity blocks, in order."""
    frame = _header_frame(header)
    out.write(frame)
    size = header.shape.parity_bytes
    out.write(frames.prefix(frames.PARITY_BLOCKS, size))
    piece = memoryview(bytearray(min(_PIECE, size)))
    for at in range(0, size, len(piece)):
        part = piece[: size - at]
        if blocks.read_into(at, part) != len(part):
            raise DamageError("Parity blocks that were just written cannot be read back.")
        out.write(part)
    out.write(frame)
    out.write(frames.trailer(len(frame) + frames.PREFIX_SIZE + size))


def _header_frame(header: ParityHeader) -> bytes:
    text = canonical(header)
    return frames.skippable(frames.PARITY_HEADER, blake3(text).digest() + text)


def read_sidecar(reader: Reader, name: str) -> Sidecar:
    """The sidecar stored as ``name``.

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
    at = frames.PREFIX_SIZE + len(payload) + frames.PREFIX_SIZE
    faults = [
        *(["its first header is damaged"] if first is None else []),
        *(["its second header cannot be reached from its end"] if second != payload else []),
        *_frame_faults(reader, header, at, len(payload)),
    ]
    return Sidecar(reader, header, at, tuple(faults))


def _frame_faults(reader: Reader, header: ParityHeader, at: int, payload: int) -> list[str]:
    size = header.shape.parity_bytes
    whole = at + size + frames.PREFIX_SIZE + payload + frames.TRAILER_SIZE
    found = []
    if reader.size != whole:
        found.append(f"it has {reader.size:,} bytes instead of {whole:,}")
    prefix = _read(reader, at - frames.PREFIX_SIZE, frames.PREFIX_SIZE)
    if prefix is None or frames.read_prefix(prefix) != (frames.PARITY_BLOCKS, size):
        found.append("the frame of its parity blocks is damaged")
    return found


def _require_known(header: ParityHeader, name: str) -> None:
    if header.format != FORMAT or header.features.read:
        raise UnknownFormatError(
            f"{name} has a format or a feature that this version does not know.",
            hint="Use a newer archiver, or remove the sidecar: nothing else needs it.",
        )


def _require_sound(header: ParityHeader, name: str) -> None:
    """A header that contradicts itself or its sidecar's name leads nowhere."""
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
    """So many bytes, or None if they are not all there."""
    if offset < 0 or offset + size > reader.size:
        return None
    data = bytearray(size)
    try:
        got = reader.read_into(offset, memoryview(data))
    except DamageError:
        return None
    return data if got == size else None


def _payload_at(reader: Reader, offset: int) -> bytes | None:
    """The payload of the parity header there, if it is one and has the digest it begins with."""
    prefix = _read(reader, offset, frames.PREFIX_SIZE)
    magic, size = frames.read_prefix(prefix) if prefix is not None else (0, 0)
    if magic != frames.PARITY_HEADER or not _DIGEST < size <= HEADER_MAX:
        return None
    payload = _read(reader, offset + frames.PREFIX_SIZE, size)
    if payload is None or blake3(payload[_DIGEST:]).digest() != payload[:_DIGEST]:
        return None
    return bytes(payload)


def _last_payload(reader: Reader) -> bytes | None:
    """The payload of the header that the last 16 bytes lead to."""
    last = _read(reader, reader.size - frames.TRAILER_SIZE, frames.TRAILER_SIZE)
    try:
        return None if last is None else _payload_at(reader, frames.read_trailer(last))
    except ValueError:
        return None
