"""A tensor as a shard holds it: its name, its dtype, its shape, and where its bytes come from."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Dtype = Literal["F32", "I32", "BF16", "F8_E4M3"]
WIDTHS: dict[Dtype, int] = {"F32": 4, "I32": 4, "BF16": 2, "F8_E4M3": 1}
"""Bytes of a value, in the order in which the safetensors library writes the dtypes."""


class Stored(NamedTuple):
    """One tensor of a shard; ``data`` makes its bytes, block by block."""

    name: str
    shape: tuple[int, ...]
    dtype: Dtype
    data: Callable[[], Iterable[bytes]]

    @property
    def size(self) -> int:
        """Bytes of the tensor's data."""
        return prod(self.shape) * WIDTHS[self.dtype]

    @property
    def file_order(self) -> tuple[int, str]:
        """Sorts the tensors of a shard: wide dtypes first, then by name."""
        return list(WIDTHS).index(self.dtype), self.name
