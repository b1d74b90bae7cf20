"""The weights of the linear layers, each expert's apart, as a quantised checkpoint stores them."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import TYPE_CHECKING, NamedTuple

from archiver.demo.weights import matrix

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    from numpy.typing import NDArray

    from archiver.demo.tensor_list import Tensor

    Matrices = Callable[[Tensor], NDArray[np.float32]]

_FUSED = {"gate_up_proj": ("gate_proj", "up_proj"), "down_proj": ("down_proj",)}


class Linear(NamedTuple):
    """One layer's weight: a range of the rows of a tensor of the BF16 model."""

    module: str
    tensor: Tensor
    begin: int
    rows: int

    @property
    def shape(self) -> tuple[int, int]:
        """Outputs and inputs."""
        return self.rows, self.tensor.shape[-1]

    def values(self, matrices: Matrices) -> NDArray[np.float32]:
        """The weight."""
        return matrices(self.tensor)[self.begin : self.begin + self.rows]


def linears_of(tensor: Tensor) -> Iterator[Linear]:
    """The layers whose weights ``tensor`` holds: one, or those of all its fused experts."""
    if tensor.name.endswith(".weight"):
        yield Linear(tensor.name.removesuffix(".weight"), tensor, 0, tensor.shape[0])
        return
    experts, fused = tensor.name.rsplit(".", 1)
    parts = _FUSED[fused]
    rows = tensor.shape[1] // len(parts)
    for number in range(tensor.shape[0] * len(parts)):
        expert, part = divmod(number, len(parts))
        yield Linear(f"{experts}.{expert}.{parts[part]}", tensor, number * rows, rows)


def matrices_of(seed: int) -> Matrices:
    """Makes the values of a tensor; the last two are kept, as an expert's layers lie in two."""
    return lru_cache(maxsize=2)(partial(matrix, seed=seed))
