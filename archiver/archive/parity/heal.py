"""Making a damaged stored file whole again from what is left of it and its sidecar."""

from __future__ import annotations

from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

from archiver.archive import layout
from archiver.archive.fixity import file_digest, require_named
from archiver.archive.parity.erasure import Source, bad_blocks, recover_group
from archiver.archive.parity.sidecar import Sidecar, read_block, read_sidecar
from archiver.errors import DamageError
from archiver.text import plural

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.storage.store import Reader, Staged, Store


def heal(store: Store, name: str, out: Staged) -> None:
    """Write the whole bytes of the stored file ``name`` to ``out``, which is empty; publishes nothing.

    They come from what is left of the file, which may be nothing, and from its sidecar, which may be
    damaged too. What was written is read back and is what the name demands.

    Raises:
        DamageError: There is no sidecar, or it does not go so far; why is in the message.
        UnknownFormatError: The sidecar needs a newer version.
        NoSpaceError: There is no room for the file.
    """
    with ExitStack() as opened:
        sidecar = _sidecar(store, name, opened)
        _Patient(_open(store, name, opened), sidecar, name).write_to(out)
    _prove(out, sidecar, name)


def _sidecar(store: Store, name: str, opened: ExitStack) -> Sidecar:
    digest = layout.digest_of(name)
    place = layout.parity_name(digest) if digest else ""
    reader = _open(store, place, opened) if place else None
    if reader is None:
        raise DamageError(f"{name} has no parity.", path=name)
    sidecar = read_sidecar(reader, place)
    if sidecar.header.file != name:
        raise DamageError(f"{place} is the parity of {sidecar.header.file[:200]!r}, not of {name}.")
    return sidecar


def _open(store: Store, name: str, opened: ExitStack) -> Reader | None:
    try:
        return opened.enter_context(closing(store.open(name)))
    except FileNotFoundError:
        return None


def _prove(out: Staged, sidecar: Sidecar, name: str) -> None:
    with closing(out.reader()) as reader:
        reader.fresh()
        if file_digest(reader) != sidecar.header.blake3:
            raise DamageError(
                f"{name} did not become whole: what its parity gives is not the file."
            )
        require_named(reader, name)


class _Patient:
    """A damaged file; ``reader`` is None if nothing is left of it."""

    def __init__(self, reader: Reader | None, sidecar: Sidecar, name: str) -> None:
        self._reader = reader
        self._sidecar = sidecar
        self._name = name
        self._shape = sidecar.header.shape
        self._bad = frozenset(bad_blocks(reader, self._shape, sidecar.header.data))
        self._made: dict[int, bytes] = {}

    def write_to(self, out: Staged) -> None:
        """Write every block in order; DamageError before the first if some cannot be made."""
        hit = sorted({index % self._shape.groups for index in self._bad})
        sources = {group: dict(self._sources(group)) for group in hit}
        self._require_enough(sources)
        buffer = memoryview(bytearray(self._shape.block))
        for index in range(self._shape.data_count):
            block = self._block(index, sources, buffer)
            out.write(block[: self._shape.length(index)])

    def _sources(self, group: int) -> Iterator[tuple[int, Source]]:
        """The good blocks of a group by their numbers in it, data first."""
        shape, sidecar = self._shape, self._sidecar
        members = shape.members(group)
        if self._reader is not None:
            for number, index in enumerate(members):
                if index not in self._bad:
                    yield number, Source(self._reader, index * shape.block)
        buffer = memoryview(bytearray(shape.block))
        for number, index in enumerate(shape.parity_of(group), len(members)):
            if sidecar.block(index, buffer):
                yield number, Source(sidecar.reader, sidecar.at + index * shape.block)

    def _require_enough(self, sources: dict[int, dict[int, Source]]) -> None:
        lost = [
            group
            for group, found in sources.items()
            if len(found) < len(self._shape.members(group))
        ]
        if lost:
            state = "is missing" if self._reader is None else "is damaged"
            raise DamageError(
                f"{self._name} {state} beyond its parity: {len(self._bad)} of "
                f"{plural(self._shape.data_count, 'block')} are bad, and {len(lost)} of "
                f"{plural(self._shape.groups, 'group')} have lost more than their parity blocks make up."
            )

    def _block(
        self, index: int, sources: dict[int, dict[int, Source]], buffer: memoryview
    ) -> bytes | memoryview:
        if index in self._bad:
            if index not in self._made:
                self._recover(index % self._shape.groups, sources)
            return self._made.pop(index)
        assert self._reader is not None, "a block of no file is bad"
        digest = self._sidecar.header.data[index]
        if not read_block(self._reader, index * self._shape.block, buffer, digest):
            raise DamageError(f"{self._name} was damaged in another way when it was read again.")
        return buffer

    def _recover(self, group: int, sources: dict[int, dict[int, Source]]) -> None:
        members = self._shape.members(group)
        lost = [number for number, index in enumerate(members) if index in self._bad]
        made = recover_group(sources[group], self._shape, len(members), lost)
        self._made |= {members[number]: block for number, block in made.items()}
