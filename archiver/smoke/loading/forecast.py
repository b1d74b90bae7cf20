"""What the passes of a test will read: counted from shapes, before anything large is read."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from archiver.text import human_bytes, plural

if TYPE_CHECKING:
    from collections.abc import Sequence

    from archiver.smoke.config import ModelConfig
    from archiver.smoke.loading.layers import Layer, Part
    from archiver.smoke.model import Mode

TOKENS: Final = 160
"""The longest fixed input: about 100 places of an image and a short text."""
NEW_TOKENS: Final[dict[Mode, int]] = {"resident": 8, "streamed": 4}
"""Tokens to generate: of a streamed model fewer, for each of them it is read again."""
_TEXT: Final = 48
"""Tokens of the fixed text, by the tokenizer of Qwen3.5."""
_PICTURE: Final = 88
"""Tokens of the fixed picture with its text."""
_PATCHES: Final = 4
"""Patches of a picture for each of its tokens."""
_SENTENCES: Final = 7
"""Fixed sentences for a model that embeds."""
_SIGHT: Final = re.compile(r"(\A|\.)(visual|vision\w*)\.")
"""How the parts of models are called that only see."""
_GENERATES: Final = ("ForCausalLM", "ForConditionalGeneration", "LMHeadModel")


class Pass(NamedTuple):
    """One run of the model over so many tokens, with or without its vision tower."""

    tokens: int
    sees: bool = False


class Way(NamedTuple):
    """How a model is to be run.

    Attributes:
        mode: Where its weights are to be.
        stored: Bytes of all weights, as they are stored.
        stays: Which share of the weights stays in memory once it is read.
    """

    mode: Mode
    stored: int
    stays: float


def reading_line(config: ModelConfig, layers: Sequence[Layer], way: Way) -> str:
    """Return how much a pass and all passes read, as a sentence."""
    if way.mode == "resident":
        return f"Reading: about {human_bytes(way.stored)}, once."
    sizes = [read_in(layers, one) for one in passes(config, way.mode)]
    size = round(way.stays * max(sizes) + (1 - way.stays) * sum(sizes))
    return (
        f"Reading: about {human_bytes(sizes[0])} for a pass over the text, {human_bytes(size)} "
        f"in all {plural(len(sizes), 'pass', 'passes')} up to generate."
    )


def passes(config: ModelConfig, mode: Mode) -> list[Pass]:
    """The passes of levels ``forward`` and ``generate``, the text first."""
    text = [Pass(_TEXT)]
    found = text + ([Pass(_PICTURE, sees=True)] if config.vision is not None else [])
    if not config.architecture.endswith(_GENERATES):
        return found + text * _SENTENCES
    found += [*text, *[Pass(1)] * (NEW_TOKENS[mode] - 1)]
    return found + (text if mode == "resident" else [])  # there the tokens are compared once more


def read_in(layers: Sequence[Layer], one: Pass) -> int:
    """Return the bytes of weights that a pass uses, as they are stored, if it chooses experts at random."""
    size = 0
    for layer in layers:
        sight = _SIGHT.search(f"{layer.name}.") is not None
        if sight and not one.sees:
            continue
        tokens = one.tokens * _PATCHES if sight else one.tokens
        size += sum(round(part.stored * _share(layer.module, part, tokens)) for part in layer.parts)
    return size


def _share(module: Any, part: Part, tokens: int) -> float:
    """Which share of a parameter is used, on average."""
    rows = max(part.shape[0], 1) if part.shape else 1
    if part.kind == "rows":
        return min(1.0, tokens / rows)
    if part.kind != "experts":
        return 1.0
    chosen = getattr(getattr(module, "config", None), "num_experts_per_tok", None)
    each = min(1.0, chosen / rows) if isinstance(chosen, int) else 1.0
    return 1 - (1 - each) ** tokens
