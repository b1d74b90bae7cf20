"""Diff: which files and tensors two revisions do not share."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from archiver.archive.manifests import Segments, tensor_segments

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.archive.records import Manifest


class FileChange(msgspec.Struct, frozen=True):
    """A file that differs; ``what`` is ``removed``, ``added`` or ``changed``, sizes are in bytes.

    The size of a file that is not there is None.
    """

    what: str
    path: str
    size_a: int | None
    size_b: int | None


class TensorChange(msgspec.Struct, frozen=True):
    """A tensor that differs; ``what`` as in `FileChange`.

    ``differs`` names what a changed tensor differs in: ``dtype``, ``shape`` or, if both are the
    same, ``bytes``. What belongs to a side where the tensor is not is empty.
    """

    what: str
    name: str
    path_a: str = ""
    path_b: str = ""
    dtype_a: str = ""
    dtype_b: str = ""
    shape_a: tuple[int, ...] = ()
    shape_b: tuple[int, ...] = ()
    differs: tuple[str, ...] = ()


class Diff(msgspec.Struct, frozen=True):
    """What differs. Tensors that only lie elsewhere are the same, and counted in ``moved`` too."""

    same_files: int
    files: tuple[FileChange, ...]
    same_tensors: int
    moved: int
    tensors: tuple[TensorChange, ...]

    @property
    def same(self) -> bool:
        """Whether the two revisions hold the same files."""
        return not self.files


class _Occurrence(NamedTuple):
    """A tensor's name in a file."""

    path: str
    begin: int
    dtype: str
    shape: tuple[int, ...]
    segments: Segments

    def is_tensor(self, other: _Occurrence) -> bool:
        """Return whether the other is the same tensor, wherever it lies."""
        return self[2:] == other[2:]


_Pair = tuple[_Occurrence, _Occurrence]


def diff(a: Manifest, b: Manifest) -> Diff:
    """Return what differs between two manifests; ``a`` is the older one."""
    files = tuple(_files(a, b))
    left, right = _occurrences(a), _occurrences(b)
    same, moved, changes = 0, 0, []
    for name in sorted(left.keys() | right.keys()):
        pairs, removed, added = _matched(left.get(name, []), right.get(name, []))
        for old, new in pairs:
            if old.is_tensor(new):
                same += 1
                moved += old[:2] != new[:2]
            else:
                changes.append(_change("changed", name, old, new))
        changes += [_change("removed", name, old, None) for old in removed]
        changes += [_change("added", name, None, new) for new in added]
    differing = sum(change.what != "added" for change in files)
    return Diff(len(a.files) - differing, files, same, moved, tuple(changes))


def _files(a: Manifest, b: Manifest) -> Iterator[FileChange]:
    left = {entry.path: entry for entry in a.files}
    right = {entry.path: entry for entry in b.files}
    for path in sorted(left.keys() | right.keys()):
        old, new = left.get(path), right.get(path)
        if old is None or new is None:
            what = "added" if old is None else "removed"
            yield FileChange(what, path, old.size if old else None, new.size if new else None)
        elif (old.size, old.sha256, old.blake3) != (new.size, new.sha256, new.blake3):
            yield FileChange("changed", path, old.size, new.size)


def _occurrences(manifest: Manifest) -> dict[str, list[_Occurrence]]:
    """Return where each tensor name occurs; several files may use one name for different tensors."""
    occurrences: dict[str, list[_Occurrence]] = defaultdict(list)
    for entry in manifest.files:
        for tensor, segments in tensor_segments(entry):
            occurrences[tensor.name].append(
                _Occurrence(entry.path, tensor.begin, tensor.dtype, tensor.shape, segments)
            )
    return occurrences


def _matched(
    left: list[_Occurrence], right: list[_Occurrence]
) -> tuple[list[_Pair], list[_Occurrence], list[_Occurrence]]:
    """Return the pairs to compare, and what only one side has.

    A name is looked for in the same file first, then wherever the same tensor is; what is left is
    paired in order.
    """
    right, pairs = list(right), []
    for fits in (lambda old, new: old.path == new.path, _Occurrence.is_tensor):
        unpaired = []
        for old in left:
            new = next((candidate for candidate in right if fits(old, candidate)), None)
            if new is None:
                unpaired.append(old)
                continue
            right.remove(new)
            pairs.append((old, new))
        left = unpaired
    count = min(len(left), len(right))
    pairs += zip(left[:count], right[:count], strict=True)
    return pairs, left[count:], right[count:]


def _change(what: str, name: str, old: _Occurrence | None, new: _Occurrence | None) -> TensorChange:
    differs: tuple[str, ...] = ()
    if old and new:
        described = (("dtype", old.dtype != new.dtype), ("shape", old.shape != new.shape))
        differs = tuple(word for word, is_so in described if is_so) or ("bytes",)
    return TensorChange(
        what=what,
        name=name,
        path_a=old.path if old else "",
        path_b=new.path if new else "",
        dtype_a=old.dtype if old else "",
        dtype_b=new.dtype if new else "",
        shape_a=old.shape if old else (),
        shape_b=new.shape if new else (),
        differs=differs,
    )
