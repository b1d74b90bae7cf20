"""How wide and deep a demonstration checkpoint is; the proportions follow the real Qwen3.5."""

from __future__ import annotations

from dataclasses import dataclass

from archiver.errors import UsageError

HEAD_DIM = 64
LINEAR_HEAD_DIM = 32
CONV_KERNEL = 4
PATCH = 16
TEMPORAL_PATCH = 2
CHANNELS = 3
MERGE = 2
POSITIONS = 256
VISION_DEPTH = 2
LAYER_TYPES = ("linear_attention",) * 3 + ("full_attention",)
EXPERTS = 8
EXPERTS_PER_TOKEN = 2


@dataclass(frozen=True)
class Sizes:
    """The sizes of one checkpoint.

    Every width grows with ``scale``, so the bytes of a checkpoint grow with its square.
    """

    scale: int
    moe: bool

    def __post_init__(self) -> None:
        if self.scale < 1:
            raise UsageError(
                f"The scale of a demonstration checkpoint is at least 1, not {self.scale}."
            )

    @property
    def hidden(self) -> int:
        """Width of the residual stream."""
        return 128 * self.scale

    @property
    def vocab(self) -> int:
        """Rows of the embedding: more than the tokenizer has tokens, as in the real models."""
        return 2048 * self.scale

    @property
    def mlp(self) -> int:
        """Inner width of a dense layer's MLP, or of one expert."""
        return (64 if self.moe else 384) * self.scale

    @property
    def heads(self) -> int:
        """Query heads of full attention; half as many hold keys and values."""
        return 2 * self.scale

    @property
    def kv_heads(self) -> int:
        """Heads of keys and values in full attention."""
        return self.scale

    @property
    def linear_key_heads(self) -> int:
        """Heads of queries and of keys in linear attention."""
        return 2 * self.scale

    @property
    def linear_value_heads(self) -> int:
        """Heads of values in linear attention."""
        return 4 * self.scale

    @property
    def vision_hidden(self) -> int:
        """Width of the vision tower."""
        return 64 * self.scale

    @property
    def vision_mlp(self) -> int:
        """Inner width of the vision tower's MLPs."""
        return 256 * self.scale

    @property
    def vision_heads(self) -> int:
        """Attention heads of the vision tower."""
        return 2 * self.scale
