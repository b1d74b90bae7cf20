"""Diff: which files and tensors two revisions do not share."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from archiver.archive.manifests import Segments, tensor_segments

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.archive.records import FileEntry, Manifest


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


class _Place(NamedTuple):
    path: str
    begin: int
    dtype: str
    shape: tuple[int, ...]
    segments: Segments

    def is_tensor(self, other: _Place) -> bool:
        """Whether the other is the same tensor, wherever it lies."""
        return self[2:] == other[2:]


_Pair = tuple[_Place, _Place]


def diff(a: Manifest, b: Manifest) -> Diff:
    """What differs between two manifests; ``a`` is the older one."""
    files = tuple(_files(a, b))
    left, right = _places(a), _places(b)
    same, moved, changes = 0, 0, []
    for name in sorted(left.keys() | right.keys()):
        pairs, removed, added = _matched(left.get(name, []), right.get(name, []))
        for one, other in pairs:
            if one.is_tensor(other):
                same += 1
                moved += one[:2] != other[:2]
            else:
                changes.append(_change("changed", name, one, other))
        changes += [_change("removed", name, one, None) for one in removed]
        changes += [_change("added", name, None, other) for other in added]
    gone = sum(change.what != "added" for change in files)
    return Diff(len(a.files) - gone, files, same, moved, tuple(changes))


def _files(a: Manifest, b: Manifest) -> Iterator[FileChange]:
    left = {entry.path: entry for entry in a.files}
    right = {entry.path: entry for entry in b.files}
    for path in sorted(left.keys() | right.keys()):
        one, other = left.get(path), right.get(path)
        if one is None or other is None:
            what = "added" if one is None else "removed"
            yield FileChange(what, path, one.size if one else None, other.size if other else None)
        elif _content(one) != _content(other):
            yield FileChange("changed", path, one.size, other.size)


def _content(entry: FileEntry) -> tuple[int, str, str]:
    return entry.size, entry.sha256, entry.blake3


def _places(manifest: Manifest) -> dict[str, list[_Place]]:
    """Where each tensor name occurs; several files may use one name for different tensors."""
    found: dict[str, list[_Place]] = defaultdict(list)
    for entry in manifest.files:
        for tensor, segments in tensor_segments(entry):
            place = _Place(entry.path, tensor.begin, tensor.dtype, tensor.shape, segments)
            found[tensor.name].append(place)
    return found


def _matched(
    left: list[_Place], right: list[_Place]
) -> tuple[list[_Pair], list[_Place], list[_Place]]:
    """The pairs to compare, and what only one side has.

    A name is looked for in the same file first, then wherever the same tensor is; what is left is
    paired in order.
    """
    right, pairs = list(right), []
    for fits in (lambda one, other: one.path == other.path, _Place.is_tensor):
        rest = []
        for one in left:
            other = next((place for place in right if fits(one, place)), None)
            if other is None:
                rest.append(one)
                continue
            right.remove(other)
            pairs.append((one, other))
        left = rest
    count = min(len(left), len(right))
    pairs += zip(left[:count], right[:count], strict=True)
    return pairs, left[count:], right[count:]


def _change(what: str, name: str, one: _Place | None, other: _Place | None) -> TensorChange:
    differs: tuple[str, ...] = ()
    if one and other:
        described = (("dtype", one.dtype != other.dtype), ("shape", one.shape != other.shape))
        differs = tuple(word for word, is_so in described if is_so) or ("bytes",)
    return TensorChange(
        what=what,
        name=name,
        path_a=one.path if one else "",
        path_b=other.path if other else "",
        dtype_a=one.dtype if one else "",
        dtype_b=other.dtype if other else "",
        shape_a=one.shape if one else (),
        shape_b=other.shape if other else (),
        differs=differs,
    )
