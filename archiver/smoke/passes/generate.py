"""Level ``generate``: greedy decoding with the cache works, and agrees with plain passes."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from archiver.archive.findings import Finding
from archiver.smoke.loading.fit import NEW_TOKENS
from archiver.smoke.passes.answer import Ties
from archiver.smoke.passes.forward import ready_model
from archiver.smoke.passes.inputs import text_inputs
from archiver.smoke.report import InapplicableError, Proof, library_errors
from archiver.text import plural, printable

if TYPE_CHECKING:
    from torch import Tensor

    from archiver.smoke.model import Floats, Model, Outcome
    from archiver.smoke.session import Session


# ---- the cache against plain passes
#
# A logit's distance from its fellows is measured in their standard deviation s: an offset that all
# share changes no probability. Two ways through the same model differ by rounding: by some 1e-6 s in
# 32-bit floats, by some hundredths of s in 16-bit ones, more where it tips the choice of an expert.


_ROUNDING: Final = {"bfloat16": 0.5, "float32": 1e-3}
"""In s: by how much two logits may change places, and, root mean square, all may differ."""
_TIPPED: Final = 0.5
"""The same in whatever numbers, where the choice of an expert hangs on rounding."""
_CACHE_HINT: Final = (
    "The cache does not hold what the layers saw: try another version of transformers."
)


def first_token_fault(outcome: Outcome | None, token: int, model: Model) -> list[Finding]:
    """Return where the first generated token is not what level ``forward`` ranked first for the same text.

    A decoder of its own began with other ids there: then there is nothing to compare.
    """
    plain = outcome.of("text") if outcome else None
    if plain is None or plain.decoder_ids:
        return []
    return _rank_fault(plain.tail[-1], token, 1, rounding_of(model, tipped=bool(plain.ties)))


def rounding_of(model: Model, *, tipped: bool = False) -> float:
    """Return what rounding explains, in s; ``tipped``: the choice of an expert hangs on it."""
    return _TIPPED if tipped else _ROUNDING[model.dtype]


def cache_faults(
    model: Model, inputs: dict[str, Tensor], tokens: Tensor, logits: Floats
) -> list[Finding]:
    """Return where generated tokens, or their logits, differ from one plain pass over text and tokens.

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
    """Return where chosen tokens, or their logits, differ from those of passes without a cache."""
    findings: list[Finding] = []
    for number, (row, cached, token) in enumerate(zip(plain, logits, chosen, strict=True), 1):
        findings += _rank_fault(row, token, number, rounding)
        findings += _distance_fault(row, cached, number, rounding)
    return findings


def _plain(model: Model, inputs: dict[str, Tensor], tokens: Tensor, count: int) -> Floats:
    """Return the logits by which a plain pass would choose the last ``count`` tokens."""
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
    return [Finding("model-generate", message, hint=_CACHE_HINT)]


def _distance_fault(plain: Floats, cached: Floats, number: int, rounding: float) -> list[Finding]:
    difference = (cached - cached.mean()) - (plain - plain.mean())
    distance = float(np.sqrt(np.mean(difference**2))) / _spread(plain)
    if distance <= rounding:
        return []
    message = (
        f"The logits of generated token {number} differ from those of a plain pass by {distance:.2g} "
        "of their standard deviation, more than rounding explains."
    )
    return [Finding("model-generate", message, hint=_CACHE_HINT)]


def _spread(logits: Floats) -> float:
    return float(logits.std()) or 1.0


# ---- the level


_KEPT: Final = ("bos_token_id", "decoder_start_token_id", "pad_token_id")


def check_generate(session: Session) -> Proof:
    """Generate a few tokens after the fixed text.

    The first one is compared with the pass of level ``forward``; unless the model is streamed, all of
    them with another plain pass over text and tokens.

    Raises:
        InapplicableError: Such a model does not generate.
        SkippedError: The libraries are missing, or memory is.
        FailedError: The libraries cannot generate with it.
    """
    model = ready_model(session)
    if not model.module.can_generate():
        raise InapplicableError("Such a model does not generate text.")
    inputs = text_inputs(session)
    with library_errors("model-generate", "Generating"):
        made = _generate(model, inputs)
        findings = _outside(made.ids, made.logits) or _faults(session, model, inputs, made)
    text = _text(session, made.ids)
    proved = _proved(made.ids, text, model, compared=not findings)
    return Proof(proved, tuple(findings), {"ids": made.ids, "text": text})


class _Made(NamedTuple):
    """What was generated.

    Attributes:
        tokens: All ids, 1 x text and n tokens; of a decoder: its own.
        logits: By which the n were chosen, n x vocabulary.
        adds_ids: The class gave its first pass more ids than the text has.
    """

    tokens: Tensor
    logits: Floats
    adds_ids: bool

    @property
    def ids(self) -> list[int]:
        ids: list[int] = self.tokens[0, -len(self.logits) :].tolist()
        return ids


def _faults(
    session: Session, model: Model, inputs: dict[str, Tensor], made: _Made
) -> list[Finding]:
    findings = first_token_fault(session.outcome, made.ids[0], model)
    if model.mode == "resident" and not findings:
        findings = cache_faults(model, inputs, made.tokens, made.logits)
    return _by_its_own_way(model, inputs, made) if findings and made.adds_ids else findings


def _by_its_own_way(model: Model, inputs: dict[str, Tensor], made: _Made) -> list[Finding]:
    """Compare with no cache: XLNet adds a dummy token, and no plain pass says what is right there."""
    plain = _generate(model, inputs, use_cache=False)
    message = (
        "The tokens were not compared with plain passes: this class adds ids of its own to the text "
        "as it generates. With use_cache=False it generates the same."
    )
    remark = Finding("model-not-tried", message)
    return generated_faults(plain.logits, made.ids, made.logits, rounding_of(model)) or [remark]


def _generate(model: Model, inputs: dict[str, Tensor], *, use_cache: bool = True) -> _Made:
    import torch  # noqa: PLC0415 - of the extra

    widths: list[int] = []

    def note(_module: Any, _given: Any, named: dict[str, Any]) -> None:
        if named.get("input_ids") is not None:
            widths.append(named["input_ids"].shape[1])

    prompt = {name: inputs[name] for name in ("input_ids", "attention_mask") if name in inputs}
    placed = {name: tensor.to(model.device) for name, tensor in prompt.items()}
    own = model.module.generation_config
    model.module.generation_config = greedy = _greedy(model, use_cache=use_cache)
    watch = model.module.register_forward_pre_hook(note, with_kwargs=True)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what matters about a model is told as a finding
            made = model.module.generate(**placed, generation_config=greedy)
    finally:
        watch.remove()
        model.module.generation_config = own
    adds_ids = bool(widths) and widths[0] > prompt["input_ids"].shape[1]
    return _Made(made.sequences.cpu(), torch.cat(made.logits).float().cpu().numpy(), adds_ids)


def _greedy(model: Model, *, use_cache: bool) -> Any:
    """Return the settings of plain greedy decoding: no token ends it, and no wish of authors counts."""
    from transformers import GenerationConfig  # noqa: PLC0415 - of the extra

    own = model.module.generation_config
    ids_kept = {name: getattr(own, name, None) for name in _KEPT}
    return GenerationConfig(
        do_sample=False,
        num_beams=1,
        max_new_tokens=NEW_TOKENS[model.mode],
        use_cache=use_cache,
        return_dict_in_generate=True,
        output_logits=True,
        disable_compile=True,
        **ids_kept,
    )


def _outside(ids: list[int], logits: Floats) -> list[Finding]:
    if all(0 <= token < logits.shape[1] for token in ids) and np.isfinite(logits).all():
        return []
    message = f"Ids or logits of the generated tokens are not usable: {ids}."
    return [Finding("model-generate", message)]


def _text(session: Session, ids: list[int]) -> str:
    if session.tokenizer is None:
        return ""
    return printable(str(session.tokenizer.decode(ids)))


def _proved(ids: list[int], text: str, model: Model, *, compared: bool) -> tuple[str, ...]:
    made = f"{plural(len(ids), 'token')}, greedily and with the cache"
    made += f": “{text}”" if text else f": {ids}"
    if not compared:
        return (made,)
    if model.mode == "streamed":
        agreed = (
            "the first is the one that the plain pass ranks first; the others were not compared"
        )
    else:
        agreed = "plain passes without the cache rank the same tokens first"
    return made, agreed
