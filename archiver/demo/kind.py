"""Which kind of Qwen3.5 checkpoint is made: dense or MoE, with vision or not, quantised or not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from archiver.errors import UsageError

if TYPE_CHECKING:
    from archiver.demo.sizes import Sizes


@dataclass(frozen=True)
class Kind:
    """What sets one checkpoint apart from others of the same sizes."""

    sizes: Sizes
    vision: bool = True
    tied: bool = False
    quantisation: Literal["fp8", "gptq"] | None = None

    def __post_init__(self) -> None:
        """FP8 needs whole blocks: transformers takes a side for as many equal ones as it has scales.

        A side of 192 has two scales, of blocks of 128 and 64; it would read them as of 96 and 96.
        """
        if self.quantisation == "fp8" and self.sizes.scale > 1 and self.sizes.scale % 2:
            raise UsageError(
                "An FP8 demonstration checkpoint has the scale 1 or an even one, not "
                f"{self.sizes.scale}: else its matrices are not whole blocks."
            )
