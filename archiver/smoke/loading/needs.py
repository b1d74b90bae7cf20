"""What a model takes in memory, and the sums that say with how much it runs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Needs:
    """What a model takes, in bytes.

    Attributes:
        process: The process as it is now.
        weights: All weights, as they are computed with.
        small: Those that are always in memory.
        layer: The largest layer while it runs.
        making: What making a parameter takes besides.
        activations: What is computed on the way, logits included.
        decoding: Buffers of those who decode.
        packing: The copy of the largest matrix that a kernel may make to multiply with it.
    """

    process: int
    weights: int
    small: int
    layer: int
    making: int
    activations: int
    decoding: int
    packing: int = 0

    @property
    def resident(self) -> int:
        """With all weights in memory."""
        passing = self.activations + self.packing
        return self.process + self.weights + self.making + max(passing, self.decoding)

    @property
    def headroom(self) -> int:
        """What a streamed model takes besides the weights that stay."""
        return self.layer + self.activations + self.decoding

    @property
    def streamed(self) -> int:
        """The least that it can be streamed with."""
        return self.process + self.small + self.headroom
