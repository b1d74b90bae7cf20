"""Making a damaged stored file whole again from what is left of it and its sidecar."""

from __future__ import annotations

from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

from archiver.archive import layout
from archiver.archive.fixity import file_digest, require_named
from archiver.archive.parity.erasure import BlockLocation, bad_blocks, recover_group
from archiver.archive.parity.sidecar import Sidecar, read_block, read_sidecar
from archiver.errors import DamageError
from archiver.text import plural

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.storage.store import OpensFiles, Reader, Staged


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
        shape, sidecar = self._shape, self._sidecar
        members = shape.members(group)
        if self._reader is not None:
            for number, index in enumerate(members):
                if index not in self._bad:
                    yield number, BlockLocation(self._reader, index * shape.block)
        buffer = memoryview(bytearray(shape.block))
        for number, index in enumerate(shape.parity_of(group), len(members)):
            if sidecar.block(index, buffer):
                yield number, BlockLocation(sidecar.reader, sidecar.at + index * shape.block)

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
