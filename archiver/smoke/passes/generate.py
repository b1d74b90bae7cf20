"""Level ``generate``: greedy decoding with the cache works, and agrees with plain passes."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from archiver.archive.finding import Finding
from archiver.smoke.guard import told_as
from archiver.smoke.inputs.prepared import text_inputs
from archiver.smoke.passes.cached_path import cache_faults, first_token_fault
from archiver.smoke.passes.forward import ready_model
from archiver.smoke.report import InapplicableError, Proof
from archiver.text import plural, printable

if TYPE_CHECKING:
    from torch import Tensor

    from archiver.smoke.golden.record import Floats
    from archiver.smoke.model import Model
    from archiver.smoke.trial import Trial

_TOKENS: Final = 8
_TOKENS_STREAMED: Final = 4
"""For each token the whole model is read again."""
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
        tokens, logits = _generate(model, inputs)
        ids = tokens[0, -len(logits) :].tolist()
        findings = _outside(ids, logits) or first_token_fault(trial.outcome, ids[0], model)
        if model.mode == "resident" and not findings:
            findings = cache_faults(model, inputs, tokens, logits)
    text = _text(trial, ids)
    return Proof(_proved(ids, text, model), tuple(findings), {"ids": ids, "text": text})


def _generate(model: Model, inputs: dict[str, Tensor]) -> tuple[Tensor, Floats]:
    """All ids (1 x prompt and n tokens; of a decoder: its own), and the logits of the n: n x w."""
    import torch  # noqa: PLC0415 - of the extra

    prompt = {name: inputs[name] for name in ("input_ids", "attention_mask") if name in inputs}
    placed = {name: tensor.to(model.device) for name, tensor in prompt.items()}
    own = model.module.generation_config
    model.module.generation_config = greedy = _greedy(model)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what matters about a model is told as a finding
            made = model.module.generate(**placed, generation_config=greedy)
    finally:
        model.module.generation_config = own
    return made.sequences.cpu(), torch.cat(made.logits).float().cpu().numpy()


def _greedy(model: Model) -> Any:
    """Plain greedy decoding. No token ends it, and nothing that the model's authors prefer counts."""
    from transformers import GenerationConfig  # noqa: PLC0415 - of the extra

    count = _TOKENS if model.mode == "resident" else _TOKENS_STREAMED
    own = model.module.generation_config
    kept = {name: getattr(own, name, None) for name in _KEPT}
    return GenerationConfig(
        do_sample=False,
        num_beams=1,
        max_new_tokens=count,
        use_cache=True,
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


def _proved(ids: list[int], text: str, model: Model) -> tuple[str, ...]:
    made = f"{plural(len(ids), 'token')}, greedily and with the cache"
    made += f": “{text}”" if text else f": {ids}"
    if model.mode == "streamed":
        agreed = (
            "the first is the one that the plain pass ranks first; the others were not compared"
        )
    else:
        agreed = "plain passes without the cache rank the same tokens first"
    return made, agreed
