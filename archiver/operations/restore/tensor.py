"""One tensor of a snapshot, as a file of its own, in the format of the file that it comes from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from archiver.archive.advice import audit_hint, command
from archiver.archive.decode import FileDecoder, decoder_workers
from archiver.archive.destination import (
    ExistingFileError,
    holds_pieces,
    open_folder,
    remove_unfinished,
    require_replaceable,
    writing,
)
from archiver.archive.manifests import tensors_of
from archiver.archive.quarantine import manifest_for, packs_for
from archiver.archive.seals import Snapshot
from archiver.errors import DamageError, UsageError
from archiver.memory import MemoryBudget
from archiver.operations.restore.files import fits
from archiver.tensors.gguf import ALIGNMENT, gguf_bytes, is_ggml_type
from archiver.tensors.header import header_bytes
from archiver.tensors.weight_files import GGUF, SAFETENSORS
from archiver.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.archive.archive import Archive
    from archiver.archive.records import FileEntry
    from archiver.tensors.header import Tensor

_SHOWN: Final = 8
"""Files that are named where several have a tensor."""


class TensorRequest(msgspec.Struct, frozen=True):
    """Which tensor to restore.

    ``destination`` is the file if it ends as files of the tensor's format do (``.safetensors`` or
    ``.gguf``), else the folder to put it in. ``patterns`` are paths of files to take it from, or patterns
    that they fit; none: whichever has it. ``overwrite``: a file that is there and wrong is replaced.
    """

    snapshot: Snapshot
    tensor: str
    destination: Path = Path()
    patterns: tuple[str, ...] = ()
    overwrite: bool = False
    memory: MemoryBudget = MemoryBudget()


class RestoredTensor(msgspec.Struct, frozen=True):
    """Where a tensor is, and which file it is from; ``kept`` if it was there already and right."""

    tensor: str
    file: str
    kept: bool
    source: str


def restore_tensor(archive: Archive, request: TensorRequest) -> RestoredTensor:
    """Write one tensor as a file of its own, unless it is there already.

    Raise UsageError if there is no such tensor, there are several, or the file is there with other content;
    DamageError if the tensor's bytes are damaged.
    """
    snapshot, name, path = request.snapshot, request.tensor, request.destination
    archive.require_outside(path)
    entry, tensor = _find_tensor(archive, request)
    suffix, header, padding = _framed(entry, tensor)
    if path.suffix in {SAFETENSORS, GGUF} - {suffix}:
        raise UsageError(
            f"{name} is a tensor of {printable(entry.path)}: it cannot be written as {path}.",
            hint=f"Name a folder, or a file that ends with {suffix}.",
        )
    if path.suffix != suffix:
        safe = "".join(c if c.isalnum() or c in "._-" else "_" for c in name)[:200]
        path /= f"{safe}{suffix}"
    open_folder(path.parent)
    remove_unfinished(path.parent)
    segments = _segments_of(entry, tensor)
    with FileDecoder(
        packs_for(archive, snapshot), workers=decoder_workers(request.memory)
    ) as decoder:

        def pieces() -> Iterator[memoryview]:
            yield memoryview(header)
            yield from decoder.pieces(iter(segments))
            yield memoryview(padding)

        try:
            size = len(header) + sum(size for size, _ in segments) + len(padding)
            kept = replace = False
            try:
                kept = holds_pieces(path, size, pieces())
            except ExistingFileError:
                if not request.overwrite:
                    raise
                require_replaceable(path, path.parent)
                replace = True
            if not kept:
                with writing(path, replace=replace) as writer:
                    for piece in pieces():
                        writer.write(piece)
                    writer.accept()
        except DamageError as error:
            error.hint = audit_hint(error, archive.store.address, snapshot.title)
            raise
    return RestoredTensor(name, str(path), kept, entry.path)


def segments_of_tensor(
    archive: Archive, request: TensorRequest
) -> tuple[str, list[tuple[int, str]]]:
    """Return the file that a tensor is taken from, and its segments; raise as ``restore_tensor`` does."""
    entry, tensor = _find_tensor(archive, request)
    return entry.path, _segments_of(entry, tensor)


def _framed(entry: FileEntry, tensor: Tensor) -> tuple[str, bytes, bytes]:
    """Return the suffix of a file of this tensor alone, and what stands in it before its bytes and after.

    Raise UsageError if a tensor of such a file cannot be written.
    """
    size = tensor.end - tensor.begin
    container = "safetensors" if entry.container is msgspec.UNSET else entry.container
    if container == "safetensors":
        return SAFETENSORS, header_bytes([(tensor.name, tensor.dtype, tensor.shape, size)]), b""
    if container == "gguf" and is_ggml_type(tensor.dtype):
        # llama.cpp reads the padding after a tensor too.
        return GGUF, gguf_bytes(tensor.name, tensor.dtype, tensor.shape), bytes(-size % ALIGNMENT)
    raise UsageError(
        f"{tensor.name} is a tensor of {printable(entry.path)}, of which this version writes no files.",
        hint="Restore that file with --file.",
    )


def _find_tensor(archive: Archive, request: TensorRequest) -> tuple[FileEntry, Tensor]:
    """Return the tensor, and a file that has it; raise UsageError if it is none, or one of several."""
    snapshot, name, patterns = request.snapshot, request.tensor, request.patterns
    matches = [
        (entry, tensor)
        for entry in manifest_for(archive, snapshot).files
        if not patterns or fits(entry.path, patterns)
        for tensor in tensors_of(entry)
        if tensor.name == name
    ]
    if not matches:
        where = f" in {', '.join(map(repr, patterns))}" if patterns else ""
        raise UsageError(
            f"{snapshot.title} has no tensor {name}{where}.",
            hint=f"{command('show', archive.store.address, snapshot.title, '--tensors')} lists them.",
        )
    contents = {
        (tensor.dtype, tensor.shape, *_segments_of(entry, tensor)) for entry, tensor in matches
    }
    if len(contents) > 1:
        files = [printable(entry.path) for entry, _ in matches]
        more = ", …" if len(files) > _SHOWN else ""
        raise UsageError(
            f"{len(contents)} different tensors of {snapshot.title} have the name {name}.",
            hint=f"Name the file with --file: {', '.join(files[:_SHOWN])}{more}",
        )
    return matches[0]


def _segments_of(entry: FileEntry, tensor: Tensor) -> list[tuple[int, str]]:
    segments, at = [], 0
    for size, digest in entry.segments:
        if tensor.begin <= at and at + size <= tensor.end:
            segments.append((size, digest))
        at += size
    if sum(size for size, _ in segments) != tensor.end - tensor.begin:
        raise DamageError(f"The manifest's segments do not cover tensor {tensor.name}.")
    return segments
