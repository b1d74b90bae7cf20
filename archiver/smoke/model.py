"""A model that is ready to run: transformers' own module, with its weights there or fetched as it runs."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import Tensor

Dtype = Literal["bfloat16", "float32"]
"""What a model computes in."""
Loader = Literal["inner", "public"]
"""By which functions of transformers it was loaded: ``public`` ones where its version was not tested."""
Mode = Literal["resident", "streamed"]
"""``resident``: all weights in memory. ``streamed``: fetched from the checkpoint when a layer runs."""


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
        """The module's output for ``inputs`` (moved to its device), without gradients."""
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
