"""How much of a checkpoint a model reads, and how long that takes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from archiver.text import human_bytes, human_duration, human_rate

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from archiver.smoke.checkpoint.protocol import Checkpoint
    from archiver.smoke.loading.layers import Layer, Part
    from archiver.smoke.model import Mode

TOKENS: Final = 160
"""The longest fixed input: about 100 places of an image and a short text."""
_SAMPLE: Final = 64 << 20
_PIECE: Final = 16 << 20
_SLOW_FROM: Final = 512 << 20
"""From how many bytes to read on their time is worth a measurement."""


def reading_line(checkpoint: Checkpoint, layers: Sequence[Layer], mode: Mode) -> str:
    """How much is read, and how long that takes, as a sentence; a large model's tensors are sampled."""
    size = sum(_reading(layers, mode))
    guess = any(part.kind == "experts" for layer in layers for part in layer.parts)
    what = "to load" if mode == "resident" else "for each forward pass"
    most = "at most about " if guess and mode == "streamed" else "about "
    line = f"Reading: {most}{human_bytes(size)} {what}"
    if size >= _SLOW_FROM:
        rate = _rate(checkpoint)
        spent = human_duration(size / rate)
        line += f", {spent} at {human_rate(rate)} as measured on a sample; computing comes on top"
    return line + ("." if mode == "resident" else ". Up to generate there are about 6 passes.")


def _reading(layers: Sequence[Layer], mode: Mode) -> Iterator[int]:
    """Bytes that are read for each parameter: all that is stored, or what one forward pass needs."""
    for layer in layers:
        for part in layer.parts:
            if mode == "streamed" and part.kind == "experts":
                yield int(part.stored * min(1.0, _hit(layer.module, part) / max(part.shape[0], 1)))
            elif mode == "streamed" and part.kind == "rows":
                yield int(part.stored * part.share)
            else:
                yield part.stored


def _hit(module: Any, part: Part) -> int:
    """How many experts the tokens of one input hit, if each token took others: an upper bound."""
    config = getattr(module, "config", None)
    top = getattr(config, "num_experts_per_tok", None)
    return TOKENS * top if isinstance(top, int) else part.shape[0]


def _rate(checkpoint: Checkpoint) -> float:
    """Bytes per second at which the largest tensors are decoded."""
    done, started = 0, time.monotonic()
    buffer = np.empty(_PIECE, np.uint8)
    for one in sorted(checkpoint.tensors.values(), key=lambda tensor: -tensor.size):
        count = min(one.size, _PIECE, _SAMPLE - done)
        if count <= 0:
            break
        sample = one._replace(shape=(count,), dtype="U8", end=one.begin + count)
        checkpoint.read_tensor(sample, buffer[:count])
        done += count
    return max(done, 1) / max(time.monotonic() - started, 1e-3)
