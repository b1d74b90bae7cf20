"""A model that is ready to run, and what it makes of an input."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


Dtype = Literal["bfloat16", "float32"]
"""What a model computes in."""
Loader = Literal["inner", "public"]
"""By which functions of transformers it was loaded: ``public`` ones where its version was not tested."""
Mode = Literal["resident", "streamed"]
"""``resident``: all weights in memory. ``streamed``: fetched from the checkpoint when a layer runs."""

Floats = np.ndarray[Any, np.dtype[np.float32]]
Output = Literal["logits", "hidden"]
"""What a model gives: logits, or the last hidden states if it has no head."""
Tie = tuple[int, ...]
"""A choice of experts that hangs on rounding, as ``golden/record.py`` tells."""


@dataclass
class Model:
    """A built model.

    Attributes:
        module: transformers' model, in evaluation mode, with eager attention and experts.
        device: Where it computes: ``cpu``, ``cuda`` or ``mps``.
        dtype: What it computes in.
        mode: Where its weights are.
        reads: What has been read for it so far.
        loader: By which functions of transformers it was loaded.
    """

    module: Any
    device: str
    dtype: Dtype
    mode: Mode
    reads: Reads
    loader: Loader = "inner"

    def __call__(self, inputs: dict[str, Tensor], **options: Any) -> Any:
        """Return the module's output for ``inputs`` (moved to its device), without gradients."""
        import torch  # noqa: PLC0415 - of the extra

        with torch.no_grad():
            placed = {name: tensor.to(self.device) for name, tensor in inputs.items()}
            return self.module(**placed, **options)


@dataclass
class Reads:
    """What was read of a checkpoint's tensors: how many different ones, and bytes in all."""

    tensors: set[str]
    size: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def note(self, name: str, size: int) -> None:
        """``size`` bytes of the tensor ``name`` were read; threads may call it."""
        with self._lock:
            self.tensors.add(name)
            self.size += size


@dataclass(frozen=True)
class Answer:
    """What came out for one input of n positions; w is the vocabulary, or the hidden width.

    Attributes:
        name: Of the input: ``text``, ``image`` or ``sentence-N``.
        ids: The input's ids.
        decoder_ids: The decoder's ids; empty if there is no such part.
        output: What the model gives: logits, or hidden states if it has no head.
        shape: n and w.
        tail: The logits of the last positions, at most 16 x w; or the mean hidden state, 1 x w.
        nll: Per position but the last -ln softmax at the next token, in nats; empty unless the
            model predicts the next token.
        wrong: Positions with an output that is not finite.
        origin: The module that gave the first number that is not finite; ``""`` if none did.
        pixels: The digest of the prepared picture as ``golden/record.py`` tells; ``""`` without one.
        ties: The choices of experts that hang on rounding, as ``golden/record.py`` tells.
        settled: How many of them were made as recorded, and not as the model would by itself.
    """

    name: str
    ids: tuple[int, ...]
    decoder_ids: tuple[int, ...]
    output: Output
    shape: tuple[int, int]
    tail: Floats
    nll: Floats
    wrong: tuple[int, ...]
    origin: str
    pixels: str
    ties: tuple[Tie, ...] = ()
    settled: int = 0

    @property
    def loss(self) -> float | None:
        """The mean of ``nll`` in nats; None if the model does not predict the next token."""
        return float(self.nll.mean(dtype=np.float64)) if self.nll.size else None


@dataclass(frozen=True)
class Outcome:
    """What came out for all inputs of a test."""

    answers: tuple[Answer, ...]

    def of(self, name: str) -> Answer | None:
        """Return the answer to the input of that name."""
        return next((answer for answer in self.answers if answer.name == name), None)
