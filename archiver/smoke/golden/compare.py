"""Whether a model's numbers are those of a golden record, as far as 32-bit rounding allows.

Relative L2 distance: ``|a - b| / |b|`` in the Euclidean norm, b being what was recorded. Measured on
small random models of the real architecture: other threads, instructions and kernels up to 7.3e-6;
where these tip the choice of an expert 1e-3 to 4e-2, and 2e-5 with the choice made as recorded
(``passes/ties.py``); an ``A_log`` larger by 1 % 8e-4 to 5e-3; two experts swapped 1.5e-2 to 4e-2; one
exponent bit 2e-4 to 1.2e-1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from archiver.smoke.golden.record import RANKED, packed, stride_of, unpacked
from archiver.smoke.golden.record import GoldenInput as Recorded

if TYPE_CHECKING:
    from archiver.smoke.model import Answer, Floats


TOLERANCE: Final = 1e-4
_MARGIN: Final = 1e-3
"""A token whose logit led by no more than this may lose its lead by rounding."""


@dataclass(frozen=True)
class Comparison:
    """How far an answer is from a recorded one.

    Attributes:
        name: Of the input.
        last: Relative L2 distance of the last position's logits, or of the mean hidden state.
        nll: Of the losses; None if there are none.
        ranks: At how many positions the token ranked first is compared.
        moved: How many of them rank another one first.
        settled: How many choices of experts that hang on rounding were made as recorded.
    """

    name: str
    last: float
    nll: float | None
    ranks: int
    moved: int
    settled: int

    @property
    def holds(self) -> bool:
        """Whether rounding explains the distance."""
        return max(self.last, self.nll or 0.0) <= TOLERANCE and not self.moved


def compare(recorded: Recorded, answer: Answer) -> Comparison:
    """Compare an answer of the recorded shape, all finite, with the record."""
    count = -(-recorded.width // recorded.stride)
    last = distance(unpacked(recorded.last, count), answer.tail[-1][:: recorded.stride])
    nll = None
    if recorded.nll:
        nll = distance(unpacked(recorded.nll, recorded.positions - 1), answer.nll)
    same = [
        int(row.argmax()) == ids[0]
        for (ids, logits), row in zip(recorded.ranked, answer.tail, strict=bool(recorded.ranked))
        if _leads(unpacked(logits, len(ids)))
    ]
    moved = len(same) - sum(same)
    return Comparison(recorded.name, last, nll, len(same), moved, answer.settled)


def _leads(logits: Floats) -> bool:
    return len(logits) > 1 and float(logits[0]) - float(logits[1]) > _MARGIN


def distance(reference: Floats, values: Floats) -> float:
    """Return the relative L2 distance; of a reference that is all zero, the absolute one."""
    wide, norm = reference.astype(np.float64), float(np.linalg.norm(reference.astype(np.float64)))
    return float(np.linalg.norm(values.astype(np.float64) - wide)) / (norm or 1.0)


def recorded_input(answer: Answer) -> Recorded:
    """Return what is kept of an answer."""
    positions, width = answer.shape
    stride = stride_of(width)
    return Recorded(
        name=answer.name,
        ids=answer.ids,
        positions=positions,
        width=width,
        stride=stride,
        last=packed(answer.tail[-1][::stride]),
        nll=packed(answer.nll),
        loss="" if answer.loss is None else f"{answer.loss:.6f}",
        ranked=tuple(map(_ranked, answer.tail)) if answer.output == "logits" else (),
        decoder_ids=answer.decoder_ids,
        pixels=answer.pixels,
        ties=answer.ties,
    )


def _ranked(row: Floats) -> tuple[tuple[int, ...], str]:
    ids = np.argsort(-row, kind="stable")[:RANKED]
    return tuple(ids.tolist()), packed(row[ids])
