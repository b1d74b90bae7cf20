"""``archiver diff``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import msgspec

from archiver.cli import output
from archiver.cli.options import common, open_archive
from archiver.cli.snapshots import snapshot_of
from archiver.errors import ExitCode
from archiver.text import human_bytes, plural, printable

if TYPE_CHECKING:
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
    old, new = snapshot_of(archive, a), snapshot_of(archive, b)
    result = diff(archive.manifest(old.seal), archive.manifest(new.seal))
    _print(result, old, new)
    if not result.same:
        output.exit_with(ExitCode.FAILURE)


def _print(result: Diff, old: Snapshot, new: Snapshot) -> None:
    for change in result.files:
        output.record("file", **msgspec.to_builtins(change))
        output.line(f"{_SIGNS[change.what]} {printable(change.path, 1024)}  {_sizes(change)}")
    for tensor in result.tensors:
        output.record("tensor", **msgspec.to_builtins(tensor))
        output.line(
            f"{_SIGNS[tensor.what]} tensor {printable(tensor.name, 1024)}  {_differs(tensor)}"
        )
    output.record(
        "diff",
        a=old.id,
        b=new.id,
        revision_a=old.seal.revision,
        revision_b=new.seal.revision,
        same=result.same,
        same_files=result.same_files,
        same_tensors=result.same_tensors,
        moved_tensors=result.moved,
        **{f"{kind}_files": _count(result.files, kind) for kind in _SIGNS},
        **{f"{kind}_tensors": _count(result.tensors, kind) for kind in _SIGNS},
    )
    moved = f" ({result.moved:,} moved)" if result.moved else ""
    output.line(
        f"{old.title} and {new.title} {'are the same' if result.same else 'differ'}: "
        f"{_counts('file', result.same_files, result.files)}; "
        f"{_counts('tensor', result.same_tensors, result.tensors, moved)}."
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
    old = f"{tensor.dtype_a} {list(tensor.shape_a)}" if tensor.dtype_a else ""
    new = f"{tensor.dtype_b} {list(tensor.shape_b)}" if tensor.dtype_b else ""
    if old == new:
        return printable(f"{old}, other bytes")
    return printable(" → ".join(filter(None, [old, new])))
