"""Making a damaged stored file whole again from what is left of it and its sidecar.

As a whole, to be put in its place (``reconstruct``); or read here and there, as if it were whole
(``MendedReader``).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Final

from archiver.archive import layout
from archiver.archive.fixity import file_digest, require_named
from archiver.archive.parity.erasure import BlockLocation, bad_blocks, recover_group
from archiver.archive.parity.sidecar import Sidecar, read_block, read_sidecar
from archiver.digest import blake3_hex
from archiver.errors import DamageError
from archiver.text import plural

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.archive.parity.sidecar import Shape
    from archiver.storage.store import OpensFiles, Reader, Staged

_BLOCKS_KEPT: Final = 32
"""Blocks that a ``MendedReader`` has in memory: an object takes 17 of the largest."""


def reconstruct(store: OpensFiles, name: str, out: Staged) -> None:
    """Write the whole bytes of the stored file ``name`` to ``out``, which is empty; publish nothing.

    They come from what is left of the file, which may be nothing, and from its sidecar, which may be
    damaged too. What was written is read back and is what the name demands.

    Raises:
        DamageError: There is no sidecar, or it does not go so far; why is in the message.
        UnknownFormatError: The sidecar needs a newer version.
        NoSpaceError: There is no room for the file.
    """
    with ExitStack() as stack:
        sidecar = _open_sidecar(store, name, stack)
        _DamagedFile(_open(store, name, stack), sidecar, name).write_to(out)
    with closing(out.reader()) as reader:
        reader.fresh()
        if file_digest(reader) != sidecar.header.blake3:
            raise DamageError(
                f"{name} did not become whole: what its parity gives is not the file."
            )
        require_named(reader, name)


def _open_sidecar(store: OpensFiles, name: str, stack: ExitStack) -> Sidecar:
    digest = layout.digest_of(name)
    sidecar_name = layout.parity_name(digest) if digest else ""
    reader = _open(store, sidecar_name, stack) if sidecar_name else None
    if reader is None:
        raise DamageError(f"{name} has no parity.", path=name)
    sidecar = read_sidecar(reader, sidecar_name)
    if sidecar.header.file != name:
        raise DamageError(
            f"{sidecar_name} is the parity of {sidecar.header.file[:200]!r}, not of {name}."
        )
    return sidecar


def _open(store: OpensFiles, name: str, stack: ExitStack) -> Reader | None:
    try:
        return stack.enter_context(closing(store.open(name)))
    except FileNotFoundError:
        return None


class _DamagedFile:
    """A damaged file; ``reader`` is None if nothing is left of it."""

    def __init__(self, reader: Reader | None, sidecar: Sidecar, name: str) -> None:
        self._reader = reader
        self._sidecar = sidecar
        self._name = name
        self._shape = sidecar.header.shape
        self._bad = frozenset(bad_blocks(reader, self._shape, sidecar.header.data))
        self._recovered: dict[int, bytes] = {}

    def write_to(self, out: Staged) -> None:
        """Write every block in order; DamageError before the first if some cannot be made."""
        groups = sorted({index % self._shape.groups for index in self._bad})
        good_blocks = {group: dict(self._good_blocks(group)) for group in groups}
        self._require_enough(good_blocks)
        buffer = memoryview(bytearray(self._shape.block))
        for index in range(self._shape.data_count):
            block = self._block(index, good_blocks, buffer)
            out.write(block[: self._shape.length(index)])

    def _good_blocks(self, group: int) -> Iterator[tuple[int, BlockLocation]]:
        """Yield the good blocks of a group by their numbers in it, data first."""
        shape = self._shape
        if self._reader is not None:
            for number, index in enumerate(shape.members(group)):
                if index not in self._bad:
                    yield number, BlockLocation(self._reader, index * shape.block)
        yield from _good_parity(self._sidecar, shape, group)

    def _require_enough(self, good_blocks: dict[int, dict[int, BlockLocation]]) -> None:
        lost = [
            group
            for group, blocks in good_blocks.items()
            if len(blocks) < len(self._shape.members(group))
        ]
        if lost:
            state = "is missing" if self._reader is None else "is damaged"
            raise DamageError(
                f"{self._name} {state} beyond its parity: {len(self._bad)} of "
                f"{plural(self._shape.data_count, 'block')} are bad, and {len(lost)} of "
                f"{plural(self._shape.groups, 'group')} have lost more than their parity blocks make up."
            )

    def _block(
        self, index: int, good_blocks: dict[int, dict[int, BlockLocation]], buffer: memoryview
    ) -> bytes | memoryview:
        """Return a data block: as it is in the file, or recovered with all others of its group."""
        if index in self._bad:
            if index not in self._recovered:
                group = index % self._shape.groups
                members = self._shape.members(group)
                lost = [number for number, member in enumerate(members) if member in self._bad]
                blocks = recover_group(good_blocks[group], self._shape, len(members), lost)
                self._recovered |= {members[number]: block for number, block in blocks.items()}
            return self._recovered.pop(index)
        assert self._reader is not None, "a block of no file is bad"
        digest = self._sidecar.header.data[index]
        if not read_block(self._reader, index * self._shape.block, buffer, digest):
            raise DamageError(f"{self._name} was damaged in another way when it was read again.")
        return buffer


def _good_parity(sidecar: Sidecar, shape: Shape, group: int) -> Iterator[tuple[int, BlockLocation]]:
    """Yield the good parity blocks of a group, counted on from its data blocks; each is read and hashed."""
    buffer = memoryview(bytearray(shape.block))
    for number, index in enumerate(shape.parity_of(group), len(shape.members(group))):
        if sidecar.block(index, buffer):
            yield number, BlockLocation(sidecar.reader, sidecar.at + index * shape.block)


class MendedReader:
    """A damaged stored file, read as it was before: each block that is bad is made again as it is read.

    Nothing is written. A block that is made takes the reading of its group; in memory are slices of that,
    and some blocks. Several threads may read.
    """

    def __init__(self, store: OpensFiles, name: str) -> None:
        """Raise DamageError if the file has no sidecar, or one that says nothing of it."""
        self._name = name
        with ExitStack() as stack:
            self._sidecar = _open_sidecar(store, name, stack)
            self._reader = _open(store, name, stack)
            self._opened = stack.pop_all()
        self._shape = self._sidecar.header.shape
        self._blocks: OrderedDict[int, bytes | memoryview] = OrderedDict()
        self._lock = threading.Lock()
        self.size = self._shape.size

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fill ``buffer`` from ``offset``, less at the file's end; DamageError where parity ends."""
        done, block = 0, self._shape.block
        end = min(offset + len(buffer), self.size)
        while offset + done < end:
            index, begin = divmod(offset + done, block)
            piece = self._block(index)[begin : begin + end - offset - done]
            buffer[done : done + len(piece)] = piece
            done += len(piece)
        return done

    def _block(self, index: int) -> bytes | memoryview:
        with self._lock:
            block = self._blocks.get(index)
            if block is None:
                left = self._left(index)
                block = self._blocks[index] = self._made(index) if left is None else left
            self._blocks.move_to_end(index)
            if len(self._blocks) > _BLOCKS_KEPT:
                self._blocks.popitem(last=False)
            return block

    def _left(self, index: int) -> memoryview | None:
        """Return a block as the file has it; None if it is bad."""
        if self._reader is None:
            return None
        buffer = memoryview(bytearray(self._shape.block))
        digest = self._sidecar.header.data[index]
        return buffer if read_block(self._reader, index * len(buffer), buffer, digest) else None

    def _made(self, index: int) -> bytes:
        """Return a block that is made of the others of its group."""
        shape, group = self._shape, index % self._shape.groups
        members = shape.members(group)
        good_blocks: dict[int, BlockLocation] = {}
        for number, member in enumerate(members):
            if member != index and self._left(member) is not None:
                assert self._reader is not None, "a block of no file is bad"
                good_blocks[number] = BlockLocation(self._reader, member * shape.block)
        for number, location in _good_parity(self._sidecar, shape, group):
            if len(good_blocks) == len(members):
                break
            good_blocks[number] = location
        if len(good_blocks) < len(members):
            raise DamageError(
                f"{self._name} is damaged beyond its parity: "
                f"{plural(len(members) - len(good_blocks), 'block')} too many of a group.",
                path=self._name,
            )
        lost = members.index(index)
        block = recover_group(good_blocks, shape, len(members), [lost])[lost]
        if blake3_hex(block) != self._sidecar.header.data[index]:
            raise DamageError(
                f"{self._name} is damaged, and what its parity gives is not the file.",
                path=self._name,
            )
        return block

    def fresh(self) -> None:
        """Let later reads come from the medium."""
        for reader in (self._reader, self._sidecar.reader):
            if reader is not None:
                reader.fresh()

    def close(self) -> None:
        """Release file and sidecar."""
        self._opened.close()
