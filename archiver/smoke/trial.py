"""One smoke test under way: what it was asked, and what its levels hand on to the next."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from archiver.progress import Progress
    from archiver.smoke.checkpoint.protocol import Checkpoint, StoredTensor
    from archiver.smoke.config import ModelConfig
    from archiver.smoke.golden.record import Golden
    from archiver.smoke.model import Dtype, Model
    from archiver.smoke.passes.outcome import Outcome


@dataclass(frozen=True)
class Wishes:
    """What the test was asked for.

    Attributes:
        memory: The process's resident memory must stay below so many bytes; None: what the machine has.
        dtype: In which numbers to compute, except for level golden, which always takes float32.
        device: ``cpu``, ``cuda`` or ``mps``; None: the best one that is there.
        golden: What an earlier run recorded, to compare with.
        record: Whether to compute a new golden record instead of comparing.
        workers: Threads that decode.
        accepted: Codes of findings of ``structure`` and ``tokenizer`` that the owner accepts.
    """

    memory: int | None = None
    dtype: Dtype = "bfloat16"
    device: str | None = None
    golden: Golden | None = None
    record: bool = False
    workers: int = 2
    accepted: frozenset[str] = frozenset()


@dataclass
class Trial:
    """What the levels share; each level sets what later ones need."""

    checkpoint: Checkpoint
    wishes: Wishes
    progress: Progress
    scratch: Path
    """A private folder that vanishes with the test."""

    tokenizer: Any = None
    """transformers' tokenizer, set by level ``tokenizer``; None if there is none."""
    model: Model | None = None
    """Set by level ``load``."""
    outcome: Outcome | None = None
    """Set by level ``forward``."""
    recorded: Golden | None = None
    """Set by level ``golden`` if a new record was asked for."""
    on_fit: Callable[[tuple[str, ...]], None] | None = None
    """Told how the model fits as soon as that is known."""
    _fit: tuple[str, ...] = field(default=(), init=False)

    @property
    def fit(self) -> tuple[str, ...]:
        """How the model fits into this machine; set by level ``load`` before anything large is read."""
        return self._fit

    @fit.setter
    def fit(self, lines: tuple[str, ...]) -> None:
        self._fit = lines
        if self.on_fit is not None:
            self.on_fit(lines)

    @cached_property
    def tensors(self) -> dict[str, StoredTensor]:
        """The tensors of the files that make the model, by name."""
        from archiver.smoke.checkpoint.model_files import model_tensors  # noqa: PLC0415 - as below

        return model_tensors(self.checkpoint)

    @cached_property
    def config(self) -> ModelConfig:
        """What ``config.json`` says; FailedError if it cannot be used."""
        from archiver.smoke.config import read_config  # noqa: PLC0415 - above this module in the room

        return read_config(self.checkpoint)

    @cached_property
    def folder(self) -> Path:
        """The small files that the libraries read, written into ``scratch``; never code or weights."""
        from archiver.smoke.checkpoint.side_files import write_side_files  # noqa: PLC0415 - as above

        return write_side_files(self.checkpoint, self.scratch)
