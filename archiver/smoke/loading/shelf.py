"""Where the weights of a streamed model are fetched from, and what decides which of them stay."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from torch import Tensor, inference_mode, nn

from archiver.smoke.loading.absent import Absent, no_room
from archiver.smoke.loading.ahead import Piece, ReadAhead
from archiver.smoke.loading.embedding_table import EmbeddingTable

if TYPE_CHECKING:
    from archiver.smoke.loading.budget import Budget
    from archiver.smoke.loading.conversion import Weights
    from archiver.smoke.loading.layers import Part


class Shelf:
    """Fetches weights, and remembers what stays.

    They are made in inference mode: torch then refuses to write to them elsewhere. What a model
    wrote to weights that are let go of would be lost without a sign of it.
    """

    def __init__(self, weights: Weights, budget: Budget) -> None:
        self._weights, self.budget, self._device = weights, budget, budget.device
        self.ahead = ReadAhead(self._read, budget.ahead, budget.readers)

    @inference_mode()
    def whole(self, key: str) -> nn.Parameter:
        """A parameter, on the device."""
        return _parameter(self._weights.parameter(key).to(self._device))

    @inference_mode()
    def rows(self, key: str, first: int, last: int) -> Tensor:
        """Some rows of a parameter that is stored as one tensor, on the device."""
        return self._weights.rows(key, first, last).to(self._device)

    @inference_mode()
    def expert(self, key: str, row: int) -> Tensor:
        """One row of a merged parameter, on the device."""
        return self._weights.expert(key, row).to(self._device)

    def _read(self, piece: Piece) -> Tensor:
        if piece.last is None:
            return self.whole(piece.key)
        return self.rows(piece.key, piece.first, piece.last)

    def stays(self, piece: Piece) -> bool:
        """Whether a piece that was just used may stay in memory; one that may does so for good."""
        if not self.ahead.keeps(piece) and self.budget.stays():
            self.ahead.keep(piece)
        return self.ahead.keeps(piece)

    def absent(self, part: Part) -> Absent:
        """What stands for a parameter that is not there."""
        made: Absent = self._stand_in(Absent, part)
        return made

    def table(self, part: Part) -> Absent:
        """What stands for an embedding's."""
        made: EmbeddingTable = self._stand_in(EmbeddingTable, part)
        made.rows = functools.partial(self.rows, part.key)
        return made

    def _stand_in(self, kind: Any, part: Part) -> Any:
        dtype = self._weights.final_dtype(part.key)
        fetch = functools.partial(self._elsewhere, part)
        return kind.like(part.key, part.shape, dtype, self._device, fetch)

    def _elsewhere(self, part: Part) -> Tensor:
        """A parameter that is used outside of its module, where the plan has no room for it."""
        if not self.budget.has_room(part.size + part.making):
            raise no_room(part.key)
        return self.whole(part.key)


def _parameter(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor, requires_grad=False)
