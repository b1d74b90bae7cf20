"""Groups of tensors: those that only numbers within their names tell apart, such as those of all layers.

A million tensors are some thousand of them, and few patterns: layers, shards and models repeat them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from archiver.tensors.header import Tensor

GROUPS_MAX: Final = 4096
"""Groups of a layout that are kept apart: the largest model has some dozens."""
_NUMBER: Final = re.compile(r"(?<![A-Za-z0-9])[0-9]+(?![A-Za-z0-9])")


class Group(NamedTuple):
    """Tensors of one dtype and shape, whose names have this pattern; ``bytes`` are of all of them."""

    pattern: str
    dtype: str
    shape: tuple[int, ...]
    tensors: int
    bytes: int


def name_pattern(name: str) -> str:
    """Return a tensor's name with ``#`` for each number that stands between other signs than letters."""
    return _NUMBER.sub("#", name)


def groups_of(tensors: Iterable[Tensor]) -> Iterator[Group]:
    """Yield the groups of a layout's tensors, those beyond the bound as one with no pattern."""
    groups: dict[tuple[str, str, tuple[int, ...]], tuple[int, int]] = {}
    for tensor in tensors:
        key = name_pattern(tensor.name), tensor.dtype, tensor.shape
        if key not in groups and len(groups) >= GROUPS_MAX:
            key = "", "", ()
        count, size = groups.get(key, (0, 0))
        groups[key] = count + 1, size + tensor.end - tensor.begin
    for key, sums in groups.items():
        yield Group(*key, *sums)
