"""Values that look trained: normal, each row with a scale of its own, rounded to BF16.

Trained matrices are close to normal, and their rows differ in scale by some tens of percent; that
is what a lossless coder feels, so made-up weights with these two traits compress as real ones do.
"""

from __future__ import annotations

from hashlib import sha256
from math import exp, prod
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from archiver.demo.architecture import Tensor

    Matrices = Callable[[Tensor], NDArray[np.float32]]

_BLOCK_VALUES = 1 << 20
_TENSOR_SPREAD = 0.15
_ROW_SPREAD = 0.25
_FUSED = {"gate_up_proj": ("gate_proj", "up_proj"), "down_proj": ("down_proj",)}


def weights(tensor: Tensor, seed: int) -> Iterator[bytes]:
    """Yield the tensor's data in blocks of about 2 MB, so that memory stays flat at any size.

    The values depend on the seed and on the tensor's name, not on its neighbours.
    """
    rng = np.random.default_rng([seed, *sha256(tensor.name.encode()).digest()])
    scale = tensor.std * exp(_TENSOR_SPREAD * rng.standard_normal())
    rows, width = _as_rows(tensor.shape)
    step = max(1, _BLOCK_VALUES // width)
    for start in range(0, rows, step):
        shape = (min(step, rows - start), width)
        yield _encoded(_block(rng, shape, scale) + np.float32(tensor.mean), tensor.dtype)


def matrix(tensor: Tensor, seed: int) -> NDArray[np.float32]:
    """Return all values of a BF16 tensor at once: its last dimension wide, the others as rows."""
    codes = np.frombuffer(b"".join(weights(tensor, seed)), "<u2")
    return from_bf16(codes).reshape(_as_rows(tensor.shape))


def _as_rows(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return ``shape`` as rows and their width; a vector is one row."""
    return prod(shape[:-1]), shape[-1]


def _block(rng: np.random.Generator, shape: tuple[int, int], scale: float) -> NDArray[np.float32]:
    spread = _ROW_SPREAD * rng.standard_normal((shape[0], 1), dtype=np.float32)
    values = rng.standard_normal(shape, dtype=np.float32)
    values *= np.float32(scale) * np.exp(spread)
    return values


def _encoded(values: NDArray[np.float32], dtype: str) -> bytes:
    return values.astype("<f4").tobytes() if dtype == "F32" else as_bf16(values).tobytes()


def as_bf16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Return the upper half of each value's bits, rounded to the nearest, ties to even."""
    bits = values.view(np.uint32)
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    return ((bits + np.uint32(0x7FFF) + odd) >> np.uint32(16)).astype("<u2")


def from_bf16(codes: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Return the values that BF16 codes stand for."""
    return (codes.astype(np.uint32) << np.uint32(16)).view(np.float32)


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
        """Return the weight."""
        return matrices(self.tensor)[self.begin : self.begin + self.rows]


def linears_of(tensor: Tensor) -> Iterator[Linear]:
    """Yield the layers whose weights ``tensor`` holds: one, or those of all its fused experts."""
    if tensor.name.endswith(".weight"):
        yield Linear(tensor.name.removesuffix(".weight"), tensor, 0, tensor.shape[0])
        return
    experts, fused = tensor.name.rsplit(".", 1)
    parts = _FUSED[fused]
    rows = tensor.shape[1] // len(parts)
    for number in range(tensor.shape[0] * len(parts)):
        expert, part = divmod(number, len(parts))
        yield Linear(f"{experts}.{expert}.{parts[part]}", tensor, number * rows, rows)
