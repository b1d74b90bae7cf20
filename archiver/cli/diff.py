"""``archiver diff``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import msgspec

from archiver.cli import output
from archiver.cli.options import common, open_archive, split_reference
from archiver.text import human_bytes, plural, printable

if TYPE_CHECKING:
    from archiver.archive.archive import Archive
    from archiver.archive.seals import Snapshot
    from archiver.operations.diff import Diff, FileChange, TensorChange

_SIGNS = {"removed": "-", "added": "+", "changed": "~"}


@click.command(
    epilog="Example: archiver diff -C weights Qwen/Qwen3.5-0.8B@1a2b3c4 Qwen/Qwen3.5-0.8B@5d6e7f8"
)
@click.argument("a", metavar="REPO[@REVISION]")
@click.argument("b", metavar="REPO[@REVISION]")
@common
def command(a: str, b: str) -> None:
    """Show which files and tensors differ between two snapshots.

    A tensor that only lies elsewhere, in another file or at another offset, is the same. Exits with
    0 if both hold the same files, and with 1 if they differ.
    """
    from archiver.operations.diff import diff

    archive = open_archive(reading=True)
    one, other = _find(archive, a), _find(archive, b)
    found = diff(archive.manifest(one.seal), archive.manifest(other.seal))
    _tell(found, one, other)
    if not found.same:
        raise click.exceptions.Exit(1)


def _find(archive: Archive, reference: str) -> Snapshot:
    snapshot = archive.find(*split_reference(reference))
    if not snapshot.seal.selection.known:
        output.remark(f"note: perhaps not all files of {snapshot.title} are held.")
    if snapshot.seal.selection.chosen:
        output.remark(f"note: only chosen files of {snapshot.title} are held.")
    return snapshot


def _tell(found: Diff, one: Snapshot, other: Snapshot) -> None:
    for change in found.files:
        output.record("file", **msgspec.to_builtins(change))
        output.line(f"{_SIGNS[change.what]} {printable(change.path, 1024)}  {_sizes(change)}")
    for tensor in found.tensors:
        output.record("tensor", **msgspec.to_builtins(tensor))
        output.line(
            f"{_SIGNS[tensor.what]} tensor {printable(tensor.name, 1024)}  {_differs(tensor)}"
        )
    output.record(
        "diff",
        a=one.id,
        b=other.id,
        same=found.same,
        same_files=found.same_files,
        same_tensors=found.same_tensors,
        moved_tensors=found.moved,
        **{f"{kind}_files": _count(found.files, kind) for kind in _SIGNS},
        **{f"{kind}_tensors": _count(found.tensors, kind) for kind in _SIGNS},
    )
    moved = f" ({found.moved:,} moved)" if found.moved else ""
    output.line(
        f"{one.title} and {other.title} {'are the same' if found.same else 'differ'}: "
        f"{_counts('file', found.same_files, found.files)}; "
        f"{_counts('tensor', found.same_tensors, found.tensors, moved)}."
    )


def _counts(
    noun: str,
    same: int,
    changes: tuple[FileChange, ...] | tuple[TensorChange, ...],
    moved: str = "",
) -> str:
    parts = [f"{plural(same, noun)} the same{moved}"]
    counted = ((kind, _count(changes, kind)) for kind in ("changed", "removed", "added"))
    return ", ".join(parts + [f"{count:,} {kind}" for kind, count in counted if count])


def _count(changes: tuple[FileChange, ...] | tuple[TensorChange, ...], what: str) -> int:
    return sum(change.what == what for change in changes)


def _sizes(change: FileChange) -> str:
    sizes = (change.size_a, change.size_b)
    return " → ".join(human_bytes(size) for size in sizes if size is not None)


def _differs(tensor: TensorChange) -> str:
    one = f"{tensor.dtype_a} {list(tensor.shape_a)}" if tensor.dtype_a else ""
    other = f"{tensor.dtype_b} {list(tensor.shape_b)}" if tensor.dtype_b else ""
    if one == other:
        return printable(f"{one}, other bytes")
    return printable(" → ".join(filter(None, [one, other])))
