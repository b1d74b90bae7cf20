"""The architecture of a demonstration checkpoint: its sizes, its variant, and the tensors that follow.

The proportions follow the real Qwen3.5; so do the names, dtypes and shapes of the tensors, in the
model's order. Weights are BF16; only ``A_log`` and ``linear_attn.norm.weight`` are F32. A text layer's
experts are fused into two 3-D tensors whose names lack ``.weight``; each expert of the MTP layer has
tensors of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from archiver.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

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
_TYPICAL_STD = 0.02


@dataclass(frozen=True)
class Sizes:
    """How wide a checkpoint is.

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


@dataclass(frozen=True)
class Variant:
    """What a checkpoint of these sizes is: with vision or for text alone, its head, its quantisation."""

    sizes: Sizes
    vision: bool = True
    tied: bool = False
    quantisation: Literal["fp8", "gptq"] | None = None

    def __post_init__(self) -> None:
        # FP8 needs whole blocks: transformers takes a side for as many equal ones as it has scales. A
        # side of 192 has two scales, of blocks of 128 and 64; it would read them as of 96 and 96.
        if self.quantisation == "fp8" and self.sizes.scale > 1 and self.sizes.scale % 2:
            raise UsageError(
                "An FP8 demonstration checkpoint has the scale 1 or an even one, not "
                f"{self.sizes.scale}: else its matrices are not whole blocks."
            )


@dataclass(frozen=True)
class Tensor:
    """One tensor and the normal distribution that its values resemble."""

    name: str
    shape: tuple[int, ...]
    std: float = _TYPICAL_STD
    mean: float = 0.0
    dtype: Literal["BF16", "F32"] = "BF16"


def tensors_of(variant: Variant) -> list[Tensor]:
    """Return every tensor of the model in BF16; one with tied embeddings has no head of its own."""
    sizes, hidden, text = variant.sizes, variant.sizes.hidden, "model.language_model"
    tensors = [Tensor(f"{text}.embed_tokens.weight", (sizes.vocab, hidden))]
    for number, kind in enumerate(LAYER_TYPES):
        tensors += _layer(f"{text}.layers.{number}", kind, sizes)
    tensors += [_norm(f"{text}.norm", hidden), *(_vision(sizes) if variant.vision else ())]
    if not variant.tied:
        tensors.append(Tensor("lm_head.weight", (sizes.vocab, hidden)))
    return [*tensors, *_mtp(sizes)]


def _norm(name: str, width: int) -> Tensor:
    """Return an RMS norm as Qwen3.5 stores it: the difference from one."""
    return Tensor(f"{name}.weight", (width,), std=0.1)


def _layer(at: str, kind: str, sizes: Sizes) -> Iterator[Tensor]:
    yield _norm(f"{at}.input_layernorm", sizes.hidden)
    yield from _linear_attention(at, sizes) if kind == "linear_attention" else _attention(at, sizes)
    yield _norm(f"{at}.post_attention_layernorm", sizes.hidden)
    yield from _moe(at, sizes) if sizes.moe else _mlp(f"{at}.mlp", sizes)


def _linear_attention(layer: str, sizes: Sizes) -> Iterator[Tensor]:
    at, hidden, heads = f"{layer}.linear_attn", sizes.hidden, sizes.linear_value_heads
    values = heads * LINEAR_HEAD_DIM
    channels = values + 2 * sizes.linear_key_heads * LINEAR_HEAD_DIM
    yield Tensor(f"{at}.A_log", (heads,), mean=1.0, std=0.9, dtype="F32")
    yield Tensor(f"{at}.conv1d.weight", (channels, 1, CONV_KERNEL), std=0.2)
    yield Tensor(f"{at}.dt_bias", (heads,), mean=1.0, std=0.5)
    yield Tensor(f"{at}.in_proj_a.weight", (heads, hidden))
    yield Tensor(f"{at}.in_proj_b.weight", (heads, hidden))
    yield Tensor(f"{at}.in_proj_qkv.weight", (channels, hidden))
    yield Tensor(f"{at}.in_proj_z.weight", (values, hidden))
    yield Tensor(f"{at}.norm.weight", (LINEAR_HEAD_DIM,), mean=1.0, std=0.1, dtype="F32")
    yield Tensor(f"{at}.out_proj.weight", (hidden, values))


def _attention(layer: str, sizes: Sizes) -> Iterator[Tensor]:
    """Yield full attention; ``q_proj`` is twice as tall as usual, for it also makes the output gate."""
    at, hidden, head = f"{layer}.self_attn", sizes.hidden, HEAD_DIM
    yield _norm(f"{at}.k_norm", head)
    yield Tensor(f"{at}.k_proj.weight", (sizes.kv_heads * head, hidden))
    yield Tensor(f"{at}.o_proj.weight", (hidden, sizes.heads * head))
    yield _norm(f"{at}.q_norm", head)
    yield Tensor(f"{at}.q_proj.weight", (2 * sizes.heads * head, hidden))
    yield Tensor(f"{at}.v_proj.weight", (sizes.kv_heads * head, hidden))


def _mlp(at: str, sizes: Sizes) -> Iterator[Tensor]:
    yield Tensor(f"{at}.down_proj.weight", (sizes.hidden, sizes.mlp))
    yield Tensor(f"{at}.gate_proj.weight", (sizes.mlp, sizes.hidden))
    yield Tensor(f"{at}.up_proj.weight", (sizes.mlp, sizes.hidden))


def _moe(layer: str, sizes: Sizes) -> Iterator[Tensor]:
    at, hidden, mlp = f"{layer}.mlp", sizes.hidden, sizes.mlp
    yield Tensor(f"{at}.experts.down_proj", (EXPERTS, hidden, mlp))
    yield Tensor(f"{at}.experts.gate_up_proj", (EXPERTS, 2 * mlp, hidden))
    yield from _router(at, sizes)


def _router(at: str, sizes: Sizes) -> Iterator[Tensor]:
    yield Tensor(f"{at}.gate.weight", (EXPERTS, sizes.hidden))
    yield from _mlp(f"{at}.shared_expert", sizes)
    yield Tensor(f"{at}.shared_expert_gate.weight", (1, sizes.hidden))


def _mtp(sizes: Sizes) -> Iterator[Tensor]:
    at, hidden = "mtp.layers.0", sizes.hidden
    yield Tensor("mtp.fc.weight", (hidden, 2 * hidden))
    yield _norm(f"{at}.input_layernorm", hidden)
    yield from _attention(at, sizes)
    yield _norm(f"{at}.post_attention_layernorm", hidden)
    yield from _mtp_moe(f"{at}.mlp", sizes) if sizes.moe else _mlp(f"{at}.mlp", sizes)
    for name in ("norm", "pre_fc_norm_embedding", "pre_fc_norm_hidden"):
        yield _norm(f"mtp.{name}", hidden)


def _mtp_moe(at: str, sizes: Sizes) -> Iterator[Tensor]:
    for expert in range(EXPERTS):
        yield from _mlp(f"{at}.experts.{expert}", sizes)
    yield from _router(at, sizes)


def _vision(sizes: Sizes) -> Iterator[Tensor]:
    at, width = "model.visual", sizes.vision_hidden
    for number in range(VISION_DEPTH):
        yield from _vision_block(f"{at}.blocks.{number}", sizes)
    merged = width * MERGE**2
    yield from _affine(f"{at}.merger.linear_fc1", merged, merged)
    yield from _affine(f"{at}.merger.linear_fc2", sizes.hidden, merged)
    yield from _layer_norm(f"{at}.merger.norm", width)
    patch = (CHANNELS, TEMPORAL_PATCH, PATCH, PATCH)
    yield from _affine(f"{at}.patch_embed.proj", width, *patch)
    yield Tensor(f"{at}.pos_embed.weight", (POSITIONS, width))


def _vision_block(at: str, sizes: Sizes) -> Iterator[Tensor]:
    width, mlp = sizes.vision_hidden, sizes.vision_mlp
    yield from _affine(f"{at}.attn.proj", width, width)
    yield from _affine(f"{at}.attn.qkv", 3 * width, width)
    yield from _affine(f"{at}.mlp.linear_fc1", mlp, width)
    yield from _affine(f"{at}.mlp.linear_fc2", width, mlp)
    yield from _layer_norm(f"{at}.norm1", width)
    yield from _layer_norm(f"{at}.norm2", width)


def _affine(at: str, rows: int, *rest: int) -> Iterator[Tensor]:
    yield Tensor(f"{at}.bias", (rows,))
    yield Tensor(f"{at}.weight", (rows, *rest))


def _layer_norm(at: str, width: int) -> Iterator[Tensor]:
    yield Tensor(f"{at}.bias", (width,), std=0.05)
    yield Tensor(f"{at}.weight", (width,), mean=1.0, std=0.1)
