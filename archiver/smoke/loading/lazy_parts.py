"""Parameters of which a part is enough: blocks of a head, experts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor, nn

from archiver.smoke.loading import layers
from archiver.smoke.loading.ahead import Piece

if TYPE_CHECKING:
    from archiver.smoke.loading.layers import Part
    from archiver.smoke.loading.shelf import Shelf

_EVEN: Final = 64
"""Blocks have a multiple of so many rows: kernels sum the rows at an odd end in another order."""


class BlockedLinear:
    """A linear layer that is computed some rows of its weight at a time.

    Each number of the output is made of one row, so the result is the same; blocks stay in memory
    while the budget allows.
    """

    def __init__(self, shelf: Shelf, part: Part, module: nn.Linear) -> None:
        self._shelf, self._part, self._module = shelf, part, module
        self._kept: dict[int, Tensor] = {}

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name of it
        """As ``nn.Linear``: (…, k) to (…, n)."""
        rows = self._part.shape[0]
        step = max(1, layers.BLOCK * rows // self._part.size // _EVEN) * _EVEN
        output = input.new_empty((*input.shape[:-1], rows))
        bias = self._module.bias
        for first in range(0, rows, step):
            last = min(first + step, rows)
            part = None if bias is None else bias[first:last]
            output[..., first:last] = nn.functional.linear(input, self._block(first, last), part)
        return output

    def _block(self, first: int, last: int) -> Tensor:
        block = self._kept.get(first)
        if block is None:
            piece = Piece(self._part.key, self._part.at_once, first, last)
            block = self._shelf.ahead.get(piece)
            if self._shelf.stays(piece):
                self._kept[first] = block
        return block


class LazyExperts:
    """Stands where a module of experts has a parameter of shape (experts, …): ``[e]`` reads expert e.

    Model code that uses it in any other way gets the whole parameter, read for that one use.
    """

    def __init__(self, shelf: Shelf, part: Part) -> None:
        self._shelf, self._part = shelf, part
        self._kept: dict[int, Tensor] = {}
        self._stand_in = shelf.absent(part)

    @property
    def shape(self) -> torch.Size:
        """Its shape; it, dtype and device are told without a read."""
        return self._stand_in.shape

    @property
    def dtype(self) -> torch.dtype:
        """What it is computed in."""
        return self._stand_in.dtype

    @property
    def device(self) -> torch.device:
        """Where it is computed."""
        return self._stand_in.device

    @property
    def ndim(self) -> int:
        """How many dimensions it has."""
        return len(self.shape)

    def __getitem__(self, key: Any) -> Tensor:
        single = isinstance(key, int) or (isinstance(key, Tensor) and key.ndim == 0)
        return self._expert(int(key)) if single else self._whole()[key]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._whole(), name)

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """A function of torch that is given the whole."""
        del types
        args = tuple(_material(one) for one in args)
        return func(*args, **{name: _material(one) for name, one in (kwargs or {}).items()})

    def _whole(self) -> Tensor:
        return self._shelf.whole(self._part.key)

    def _expert(self, row: int) -> Tensor:
        found = self._kept.get(row)
        if found is None:
            found = self._shelf.expert(self._part.key, row)
            if self._shelf.budget.stays():
                self._kept[row] = found
        return found


def _material(value: Any) -> Any:
    return value._whole() if isinstance(value, LazyExperts) else value  # noqa: SLF001 - its own class
