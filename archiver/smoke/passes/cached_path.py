"""Whether decoding with the cache says the same as plain passes, as far as rounding allows.

A logit's distance from its fellows is measured in their standard deviation s: an offset that all
share changes no probability. Two ways through the same model differ by rounding: by some 1e-6 s in
32-bit floats, by some hundredths of s in 16-bit ones, more where it tips the choice of an expert.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from archiver.archive.findings import Finding
from archiver.smoke.passes.ties import Ties

if TYPE_CHECKING:
    from torch import Tensor

    from archiver.smoke.model import Floats, Model, Outcome

_ROUNDING: Final = {"bfloat16": 0.5, "float32": 1e-3}
"""In s: by how much two logits may change places, and, root mean square, all may differ."""
_TIPPED: Final = 0.5
"""The same in whatever numbers, where the choice of an expert hangs on rounding."""
_HINT: Final = "The cache does not hold what the layers saw: try another version of transformers."


def first_token_fault(outcome: Outcome | None, token: int, model: Model) -> list[Finding]:
    """The first generated token against the plain pass over the same text, of level ``forward``.

    A decoder of its own began with other ids there: then there is nothing to compare.
    """
    plain = outcome.of("text") if outcome else None
    if plain is None or plain.decoder_ids:
        return []
    return _rank_fault(plain.tail[-1], token, 1, rounding_of(model, tipped=bool(plain.ties)))


def rounding_of(model: Model, *, tipped: bool = False) -> float:
    """What rounding explains, in s; ``tipped``: the choice of an expert hangs on it."""
    return _TIPPED if tipped else _ROUNDING[model.dtype]


def cache_faults(
    model: Model, inputs: dict[str, Tensor], tokens: Tensor, logits: Floats
) -> list[Finding]:
    """Each generated token, and its logits, against one plain pass over text and tokens.

    Args:
        model: Asked once more, without a cache.
        inputs: The text.
        tokens: 1 x what was in the decoder at the end: text and tokens, or the start and tokens.
        logits: n x vocabulary, by which the n tokens were chosen.
    """
    with Ties() as ties:
        plain = _plain(model, inputs, tokens, len(logits))
    rounding = rounding_of(model, tipped=bool(ties.found))
    return generated_faults(plain, tokens[0, -len(logits) :].tolist(), logits, rounding)


def generated_faults(
    plain: Floats, chosen: list[int], logits: Floats, rounding: float
) -> list[Finding]:
    """The tokens that were chosen, and their logits, against those of passes without a cache."""
    findings: list[Finding] = []
    for number, (row, cached, token) in enumerate(zip(plain, logits, chosen, strict=True), 1):
        findings += _rank_fault(row, token, number, rounding)
        findings += _distance_fault(row, cached, number, rounding)
    return findings


def _plain(model: Model, inputs: dict[str, Tensor], tokens: Tensor, count: int) -> Floats:
    """The logits by which a plain pass would choose the last ``count`` tokens."""
    import torch  # noqa: PLC0415 - of the extra

    before = tokens[:, :-1]
    if model.module.config.is_encoder_decoder:
        given = inputs | {"decoder_input_ids": before}
    else:
        given = {"input_ids": before, "attention_mask": torch.ones_like(before)}
    rows = model(given, use_cache=False).logits[0, -count:]
    logits: Floats = rows.float().cpu().numpy()
    return logits


def _rank_fault(plain: Floats, token: int, number: int, rounding: float) -> list[Finding]:
    best = int(plain.argmax())
    ahead = float(plain[best] - plain[token]) / _spread(plain)
    if ahead <= rounding:
        return []
    message = (
        f"Generated token {number} is {token}; a plain pass ranks {best} first, by {ahead:.2g} "
        "standard deviations, more than rounding explains."
    )
    return [Finding("model-generate", message, hint=_HINT)]


def _distance_fault(plain: Floats, cached: Floats, number: int, rounding: float) -> list[Finding]:
    difference = (cached - cached.mean()) - (plain - plain.mean())
    distance = float(np.sqrt(np.mean(difference**2))) / _spread(plain)
    if distance <= rounding:
        return []
    message = (
        f"The logits of generated token {number} differ from those of a plain pass by {distance:.2g} "
        "of their standard deviation, more than rounding explains."
    )
    return [Finding("model-generate", message, hint=_HINT)]


def _spread(logits: Floats) -> float:
    return float(logits.std()) or 1.0
