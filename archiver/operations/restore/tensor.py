"""Restoring one tensor, as a safetensors file of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from archiver.archive.advice import command
from archiver.archive.destination import holds_pieces, open_folder, remove_unfinished, writing
from archiver.archive.out_of_use import manifest_for, packs_for
from archiver.archive.outflow import Outflow
from archiver.errors import DamageError, UsageError
from archiver.operations.restore.failure import hint_of
from archiver.operations.restore.report import RestoredTensor
from archiver.tensors.header import header_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from archiver.archive.archive import Archive, Snapshot
    from archiver.archive.records import FileEntry
    from archiver.tensors.header import Tensor


def restore_tensor(
    archive: Archive, snapshot: Snapshot, name: str, destination: Path, *, workers: int
) -> RestoredTensor:
    """Write one tensor as a safetensors file of its own, unless it is there already.

    ``destination`` is the file if it ends in ``.safetensors``, else the folder to put it in.

    Raises UsageError if there is no such tensor, DamageError if its bytes are damaged.
    """
    entry, tensor = _find_tensor(archive, snapshot, name)
    path = destination
    if destination.suffix != ".safetensors":
        safe = "".join(c if c.isalnum() or c in "._-" else "_" for c in name)[:200]
        path = destination / f"{safe}.safetensors"
    open_folder(path.parent)
    remove_unfinished(path.parent)
    header = header_bytes([(tensor.name, tensor.dtype, tensor.shape, tensor.end - tensor.begin)])
    segments = _segments_of(entry, tensor)
    with Outflow(packs_for(archive, snapshot), workers=workers) as outflow:
        try:
            kept = _write_tensor(path, header, segments, outflow)
        except DamageError as error:
            error.hint = hint_of(error, archive, snapshot)
            raise
    return RestoredTensor(name, str(path), kept)


def _write_tensor(
    path: Path, header: bytes, segments: list[tuple[int, str]], outflow: Outflow
) -> bool:
    """Whether the file was there already; UsageError if it is there with other content."""

    def pieces() -> Iterator[memoryview]:
        yield memoryview(header)
        yield from outflow.pieces(iter(segments))

    if holds_pieces(path, len(header) + sum(size for size, _ in segments), pieces()):
        return True
    with writing(path) as writer:
        for piece in pieces():
            writer.write(piece)
        writer.accept()
    return False


def _find_tensor(archive: Archive, snapshot: Snapshot, name: str) -> tuple[FileEntry, Tensor]:
    for entry in manifest_for(archive, snapshot).files:
        for tensor in () if isinstance(entry.tensors, msgspec.UnsetType) else entry.tensors:
            if tensor.name == name:
                return entry, tensor
    raise UsageError(
        f"{snapshot.title} has no tensor {name}.",
        hint=f"{command('show', archive.store.describe(), snapshot.title, '--tensors')} lists them.",
    )


def _segments_of(entry: FileEntry, tensor: Tensor) -> list[tuple[int, str]]:
    found, at = [], 0
    for size, digest in entry.segments:
        if tensor.begin <= at and at + size <= tensor.end:
            found.append((size, digest))
        at += size
    if sum(size for size, _ in found) != tensor.end - tensor.begin:
        raise DamageError(f"The manifest's segments do not cover tensor {tensor.name}.")
    return found
