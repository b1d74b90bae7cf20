"""How fast this machine reads a checkpoint's weights and computes with such: measured on samples."""

from __future__ import annotations

import mmap
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from archiver import memory

if TYPE_CHECKING:
    from collections.abc import Callable

    from archiver.smoke.checkpoint.protocol import Checkpoint, StoredTensor
    from archiver.smoke.loading.conversion import Weights
    from archiver.smoke.loading.layers import Part
    from archiver.smoke.model import Dtype

_PIECE: Final = 16 << 20
_PIECES: Final = 6
_SIDE: Final = 2048
_MATRICES: Final = 64 << 20
"""Bytes of matrices: more than a processor's caches hold, as a model is."""
_ROWS: Final = 48
_LEAST: Final = 0.05
"""Seconds that a measurement takes at least."""


class Speed(NamedTuple):
    """Seconds: for each weight that is used at all, and for each product with one."""

    weight: float
    product: float


def reading_rate(checkpoint: Checkpoint, threads: int) -> float:
    """Bytes per second at which the largest tensors are read and decoded, so many at once.

    What each thread reads first is not counted: it makes its buffers then.
    """
    largest = sorted(checkpoint.tensors.values(), key=lambda one: -one.size)
    pieces = [_beginning(one) for one in largest[: _PIECES + threads] if one.size]

    def read(piece: StoredTensor) -> int:
        fresh = mmap.mmap(-1, piece.size)  # a model's weights are no memory that was used before
        checkpoint.read_tensor(piece, np.frombuffer(fresh, np.uint8))
        return piece.size

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(read, pieces[:threads]))
        started = time.monotonic()
        done = sum(pool.map(read, pieces[threads:] or pieces))
        spent = time.monotonic() - started
    memory.give_back()
    return max(done, 1) / max(spent, 1e-3)


def making_rate(weights: Weights, part: Part) -> float:
    """Stored bytes per second at which a parameter, or an expert of it, is read and converted."""
    experts = part.kind == "experts" and weights.row_by_row(part.key)
    call = partial(weights.expert, part.key, 0) if experts else partial(weights.parameter, part.key)
    size = part.stored // part.shape[0] if experts else part.stored
    return max(size, 1) / max(_seconds(call), 1e-6)


def _beginning(tensor: StoredTensor) -> StoredTensor:
    size = min(tensor.size, _PIECE)
    return tensor._replace(shape=(size,), dtype="U8", end=tensor.begin + size)


def computing_speed(dtype: Dtype, device: str) -> Speed:
    """From products of a matrix with one row and with as many as the fixed text has."""
    import torch  # noqa: PLC0415 - of the extra

    def product(rows: int) -> Callable[[], object]:
        given = torch.full((rows, _SIDE), 0.5, dtype=kind, device=device)
        return lambda: [torch.nn.functional.linear(given, one).sum().item() for one in matrices]

    kind = getattr(torch, dtype)
    count = _MATRICES // (_SIDE**2 * kind.itemsize)
    with torch.inference_mode():
        matrices = torch.full((count, _SIDE, _SIDE), 0.5, dtype=kind, device=device)
        one, many = (_seconds(product(rows)) / matrices.numel() for rows in (1, _ROWS))
    each = max(0.0, many - one) / (_ROWS - 1)
    return Speed(max(0.0, one - each), each)


def _seconds(call: Callable[[], object]) -> float:
    """The mean of several calls, after one that is not counted; what else the machine does counts too."""
    call()
    started, count = time.monotonic(), 0
    while time.monotonic() - started < _LEAST or not count:
        call()
        count += 1
    return (time.monotonic() - started) / count
