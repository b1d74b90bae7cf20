"""Level ``generate``: greedy decoding with the cache works, and agrees with plain passes."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from archiver.archive.findings import Finding
from archiver.smoke.guard import told_as
from archiver.smoke.inputs.prepared import text_inputs
from archiver.smoke.loading.forecast import NEW_TOKENS
from archiver.smoke.passes.cached_path import (
    cache_faults,
    first_token_fault,
    generated_faults,
    rounding_of,
)
from archiver.smoke.passes.forward import ready_model
from archiver.smoke.report import InapplicableError, Proof
from archiver.text import plural, printable

if TYPE_CHECKING:
    from torch import Tensor

    from archiver.smoke.model import Floats, Model
    from archiver.smoke.trial import Trial

_KEPT: Final = ("bos_token_id", "decoder_start_token_id", "pad_token_id")


def check_generate(trial: Trial) -> Proof:
    """Generate a few tokens after the fixed text.

    The first one is compared with the pass of level ``forward``; unless the model is streamed, all of
    them with another plain pass over text and tokens.

    Raises:
        InapplicableError: Such a model does not generate.
        SkippedError: The libraries are missing, or memory is.
        FailedError: The libraries cannot generate with it.
    """
    model = ready_model(trial)
    if not model.module.can_generate():
        raise InapplicableError("Such a model does not generate text.")
    inputs = text_inputs(trial)
    with told_as("model-generate", "Generating"):
        made = _generate(model, inputs)
        findings = _outside(made.ids, made.logits) or _faults(trial, model, inputs, made)
    text = _text(trial, made.ids)
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
        found: list[int] = self.tokens[0, -len(self.logits) :].tolist()
        return found


def _faults(trial: Trial, model: Model, inputs: dict[str, Tensor], made: _Made) -> list[Finding]:
    findings = first_token_fault(trial.outcome, made.ids[0], model)
    if model.mode == "resident" and not findings:
        findings = cache_faults(model, inputs, made.tokens, made.logits)
    return _by_its_own_way(model, inputs, made) if findings and made.adds_ids else findings


def _by_its_own_way(model: Model, inputs: dict[str, Tensor], made: _Made) -> list[Finding]:
    """XLNet generates with a dummy token after the text: no plain pass says what is right there."""
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
    """Plain greedy decoding. No token ends it, and nothing that the model's authors prefer counts."""
    from transformers import GenerationConfig  # noqa: PLC0415 - of the extra

    own = model.module.generation_config
    kept = {name: getattr(own, name, None) for name in _KEPT}
    return GenerationConfig(
        do_sample=False,
        num_beams=1,
        max_new_tokens=NEW_TOKENS[model.mode],
        use_cache=use_cache,
        return_dict_in_generate=True,
        output_logits=True,
        disable_compile=True,
        **kept,
    )


def _outside(ids: list[int], logits: Floats) -> list[Finding]:
    if all(0 <= one < logits.shape[1] for one in ids) and np.isfinite(logits).all():
        return []
    message = f"Ids or logits of the generated tokens are not usable: {ids}."
    return [Finding("model-generate", message)]


def _text(trial: Trial, ids: list[int]) -> str:
    if trial.tokenizer is None:
        return ""
    return printable(str(trial.tokenizer.decode(ids)))


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
