"""One smoke test under way: what it was asked, and what its levels hand on to the next."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from archiver.smoke.checkpoint.config import read_config
from archiver.smoke.checkpoint.files import model_tensors
from archiver.smoke.checkpoint.side_files import write_side_files
from archiver.smoke.messages import Guarded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from archiver.smoke.checkpoint.config import ModelConfig
    from archiver.smoke.checkpoint.files import Checkpoint, StoredTensor
    from archiver.smoke.golden.record import Golden
    from archiver.smoke.messages import Event, Part, Settings
    from archiver.smoke.model import Model, Outcome
    from archiver.smoke.report import Proof


@dataclass
class Session:
    """What the levels share; each level sets what later ones need."""

    checkpoint: Checkpoint
    settings: Settings
    scratch: Path
    """A private folder that vanishes with the test."""

    tell: Callable[[Event], None]
    """Told of each step."""
    tokenizer: Any = None
    """transformers' tokenizer, set by level ``tokenizer``; None if there is none."""
    model: Model | None = None
    """Set by level ``load``."""
    outcome: Outcome | None = None
    """Set by level ``forward``."""
    recorded: Golden | None = None
    """Set by level ``golden`` if a new record was asked for."""

    @contextmanager
    def guarded(self, part: Part, proof: Proof) -> Iterator[None]:
        """Have the parent watch what is run in here: if it must end it, ``proof`` is what is known."""
        self.tell(Guarded(part, proof.accepting(self.settings.accepted)))
        try:
            yield
        finally:
            self.tell(Guarded(None))

    @cached_property
    def tensors(self) -> dict[str, StoredTensor]:
        """The tensors of the files that make the model, by name."""
        return model_tensors(self.checkpoint)

    @cached_property
    def config(self) -> ModelConfig:
        """What ``config.json`` says; FailedError if it cannot be used."""
        return read_config(self.checkpoint)

    @cached_property
    def folder(self) -> Path:
        """The small files that the libraries read, written into ``scratch``; never code or weights."""
        return write_side_files(self.checkpoint, self.scratch)
