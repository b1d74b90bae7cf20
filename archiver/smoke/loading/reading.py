"""How much a test will read, and how long it will take, as sentences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from archiver.smoke.loading.forecast import passes, work_of
from archiver.smoke.loading.sample import computing_speed, making_rate, reading_rate
from archiver.text import human_bytes, human_duration, human_rate, plural

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from archiver.smoke.loading.conversion import Weights
    from archiver.smoke.loading.forecast import Work
    from archiver.smoke.loading.layers import Layer
    from archiver.smoke.model import Dtype, Mode
    from archiver.smoke.trial import Trial

_SLOW_FROM: Final = 512 << 20
"""From how many bytes to read on their time is worth a measurement."""


@dataclass(frozen=True)
class Way:
    """How a model is to be run.

    Attributes:
        mode: Where its weights are to be.
        stored: Bytes of all weights, as they are stored.
        stays: Which share of the weights stays in memory once it is read.
        readers: How many of its tensors are read at once.
        dtype: What it computes in.
        device: Where it computes.
    """

    mode: Mode
    stored: int
    stays: float
    readers: int
    dtype: Dtype
    device: str


def time_lines(trial: Trial, layers: Sequence[Layer], weights: Weights, way: Way) -> Iterator[str]:
    """How much is read, and how long all takes; small models are not worth a measurement of that."""
    found = [work_of(layers, one) for one in passes(trial.config, way.mode)]
    size = _read(found, way)
    yield _reading(found, size, way)
    if size < _SLOW_FROM:
        return
    rate = _with_undoing(reading_rate(trial.checkpoint, way.readers), layers, weights)
    speed = computing_speed(way.dtype, way.device)
    computing = [one.weights * speed.weight + one.products * speed.product for one in found]
    total, reading = size / rate + sum(computing), size / rate
    line = (
        f"Time: about {human_duration(total)} up to generate: {human_duration(reading)} to read at "
        f"{human_rate(rate)}, {human_duration(sum(computing))} to compute {_many(found)}, "
        "as measured on samples"
    )
    if way.mode == "streamed":
        line += (
            f"; one pass over the text takes {human_duration(found[0].size / rate + computing[0])}"
        )
    yield f"{line}."


def _with_undoing(rate: float, layers: Sequence[Layer], weights: Weights) -> float:
    """The rate where some of the weights are dequantized as they are read; one of them is tried."""
    parts = [part for layer in layers for part in layer.parts]
    undone = [part for part in parts if weights.dequantizes(part.key)]
    if not undone:
        return rate
    largest = max(undone, key=lambda part: part.stored * part.share)
    share = sum(part.stored for part in undone) / sum(part.stored for part in parts)
    return 1 / (share / making_rate(weights, largest) + (1 - share) / rate)


def _many(found: Sequence[Work]) -> str:
    return plural(len(found), "pass", "passes")


def _read(found: Sequence[Work], way: Way) -> int:
    """Bytes that are read in all."""
    if way.mode == "resident":
        return way.stored
    sizes = [one.size for one in found]
    return round(way.stays * max(sizes) + (1 - way.stays) * sum(sizes))


def _reading(found: Sequence[Work], size: int, way: Way) -> str:
    if way.mode == "resident":
        return f"Reading: about {human_bytes(size)}, once."
    return (
        f"Reading: about {human_bytes(found[0].size)} for a pass over the text, {human_bytes(size)} "
        f"in all {_many(found)} up to generate."
    )
