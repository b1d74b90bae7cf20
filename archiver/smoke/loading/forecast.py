"""What the passes of a test will read and compute: counted from shapes, before anything large is read."""

from __future__ import annotations

import re
from math import prod
from typing import TYPE_CHECKING, Any, Final, NamedTuple

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


class Work(NamedTuple):
    """What a pass takes.

    Attributes:
        size: Bytes of weights that it uses, as they are stored.
        weights: Numbers that are multiplied with, each counted once.
        products: Each counted as often as it is multiplied with.
    """

    size: int
    weights: int
    products: int


def passes(config: ModelConfig, mode: Mode) -> list[Pass]:
    """The passes of levels ``forward`` and ``generate``, the text first."""
    text = [Pass(_TEXT)]
    found = text + ([Pass(_PICTURE, sees=True)] if config.vision is not None else [])
    if not config.architecture.endswith(_GENERATES):
        return found + text * _SENTENCES
    found += [*text, *[Pass(1)] * (NEW_TOKENS[mode] - 1)]
    return found + (text if mode == "resident" else [])  # there the tokens are compared once more


def work_of(layers: Sequence[Layer], one: Pass) -> Work:
    """What a pass over ``layers`` takes, if its tokens choose experts at random."""
    size, weights, products = 0, 0, 0
    for layer in layers:
        sight = _SIGHT.search(f"{layer.name}.") is not None
        if sight and not one.sees:
            continue
        tokens = one.tokens * _PATCHES if sight else one.tokens
        for part in layer.parts:
            share, times = _use(layer.module, part, tokens)
            size += round(part.stored * share)
            if len(part.shape) > 1 and part.kind != "rows":
                weights += round(prod(part.shape) * share)
                products += round(prod(part.shape) * times)
    return Work(size, weights, products)


def _use(module: Any, part: Part, tokens: int) -> tuple[float, float]:
    """Which share of a parameter is used, and how often all of it is multiplied with, on average."""
    rows = max(part.shape[0], 1) if part.shape else 1
    if part.kind == "rows":
        return min(1.0, tokens / rows), 0.0
    if part.kind != "experts":
        return 1.0, tokens
    chosen = getattr(getattr(module, "config", None), "num_experts_per_tok", None)
    each = min(1.0, chosen / rows) if isinstance(chosen, int) else 1.0
    return 1 - (1 - each) ** tokens, each * tokens
