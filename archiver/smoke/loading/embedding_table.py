"""An embedding of which only the rows that are looked up are read."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from archiver.smoke.loading.absent import Absent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class EmbeddingTable(Absent):
    """Stands where an embedding has its table: only the rows that are looked up are read.

    It is the look-up that is answered, not the module that is called: some modules shift the ids
    that they are given, or take slices of the table.
    """

    rows: Callable[[int, int], Tensor]

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Answers ``embedding``; all else as any absent parameter."""
        if func is nn.functional.embedding and isinstance(args[1], cls):
            return args[1].looked_up(args[0])
        return super().__torch_function__(func, types, args, kwargs)

    def looked_up(self, ids: Tensor) -> Tensor:
        """The rows of ``ids``, of any shape; what else ``embedding`` takes only matters to gradients."""
        wanted, places = torch.unique(ids, return_inverse=True)
        runs = [self.rows(*run) for run in _runs(wanted.tolist())]
        return nn.functional.embedding(places, torch.cat(runs) if runs else self.rows(0, 0))


def _runs(numbers: list[int]) -> Iterator[tuple[int, int]]:
    """Ascending numbers as runs of neighbours, the end not counted."""
    cuts = [place for place, (one, other) in enumerate(pairwise(numbers), 1) if other != one + 1]
    for begin, end in pairwise([0, *cuts, len(numbers)]):
        if begin < end:
            yield numbers[begin], numbers[end - 1] + 1
