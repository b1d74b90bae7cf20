"""Choices that hang on rounding: which experts a router takes where two of them score alike.

A mixture of experts is no continuous function: where the last expert taken and the first one left are
apart by less than rounding, another machine takes the other one, and the token goes another way. So
such choices are written down, and made the same way again when numbers are compared. The weights that
the experts get are never taken from the record, so a wrong router still gives other numbers.

Every router in transformers that takes several of many does it by ``torch.topk``, so that is watched.
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final, Self

from archiver.smoke.golden.record import TIES_MAX

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from archiver.smoke.model import Tie

_NEAR: Final = 1e-3
"""A choice is a tie if the last one taken leads by no more than this, in the scores' deviation."""


class Ties:
    """Watches a pass and settles its ties as they were settled before; a context manager.

    Attributes:
        settled: How many ties this model alone would have settled otherwise.
    """

    def __init__(self, before: Sequence[Tie] = ()) -> None:
        self._before: dict[int, list[Tie]] = {}
        for tie in before:
            self._before.setdefault(tie[0], []).append(tie)
        self._found: list[tuple[float, Tie]] = []
        self._choices = 0
        self._mode: Any = None
        self.settled = 0

    def __enter__(self) -> Self:
        self._mode = _watching(self)
        self._mode.__enter__()
        return self

    def __exit__(self, *ended: object) -> None:
        self._mode.__exit__(*ended)

    @property
    def found(self) -> tuple[Tie, ...]:
        """The pass's ties in its order; of too many the closest."""
        closest = [tie for _, tie in sorted(self._found)]
        sizes = accumulate(map(len, closest))
        kept = [tie for tie, size in zip(closest, sizes, strict=True) if size <= TIES_MAX]
        return tuple(sorted(kept))

    def settle(self, scores: Tensor, values: Tensor, ids: Tensor) -> None:
        """Note the ties of one choice, and write those of the record into ``values`` and ``ids``.

        Args:
            scores: n x experts.
            values: n x k, the highest scores of each row.
            ids: n x k, whose they are.
        """
        best = scores.topk(ids.shape[-1] + 1, dim=-1).values
        last, left = best[:, -2], best[:, -1]
        spread = scores.where(scores.isfinite(), last[:, None]).std(dim=-1)
        lead = (last - left) / spread
        for row in (lead <= _NEAR).nonzero().flatten().tolist():
            self._found.append((float(lead[row]), (self._choices, row, *ids[row].tolist())))
        least = last - 2 * _NEAR * spread  # rounding on two machines
        for _, row, *wanted in self._before.get(self._choices, ()):
            if _other_ids(wanted, row, ids, scores):
                theirs = scores[row, wanted]
                if bool((theirs >= least[row]).all()):
                    ids[row], values[row] = ids.new_tensor(wanted), theirs
                    self.settled += 1
        self._choices += 1


def _other_ids(wanted: list[int], row: int, ids: Tensor, scores: Tensor) -> bool:
    """Whether these could stand in that row of ``ids``, and others do."""
    fits = row < len(ids) and len(wanted) == len(set(wanted)) == ids.shape[-1]
    return fits and max(wanted) < scores.shape[-1] and set(wanted) != set(ids[row].tolist())


def _watching(ties: Ties) -> Any:
    import torch  # noqa: PLC0415 - of the extra
    from torch.overrides import TorchFunctionMode  # noqa: PLC0415 - as above

    class Watching(TorchFunctionMode):
        def __torch_function__(
            self, function: Any, _types: Any, given: Any = (), named: Any = None
        ) -> Any:
            result = function(*given, **(named or {}))
            if function in {torch.topk, torch.Tensor.topk}:
                scores = given[0] if given else named["input"]
                _look(ties, scores, result)
            return result

    return Watching()


def _look(ties: Ties, scores: Tensor, result: Any) -> None:
    """Have a choice along the last dimension settled, if it leaves anything."""
    values, ids = result
    leaves = scores.shape[:-1] == ids.shape[:-1] and ids.shape[-1] < scores.shape[-1]
    if leaves and scores.is_floating_point() and scores.device.type != "meta":
        rows = scores.float().flatten(0, -2) if scores.dim() > 1 else scores.float()[None]
        kept = ids.shape[-1]
        # what is written into these views the router gets
        ties.settle(rows, values.view(-1, kept), ids.view(-1, kept))
