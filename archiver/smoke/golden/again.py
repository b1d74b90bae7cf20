"""The recorded inputs, run again and compared with the record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from archiver.archive.findings import Finding
from archiver.smoke.golden.compare import TOLERANCE, Comparison, compare
from archiver.smoke.guard import told_as
from archiver.smoke.passes.asked import asked_again
from archiver.smoke.passes.forward import faults_of
from archiver.smoke.passes.outcome import answer
from archiver.smoke.report import Proof
from archiver.smoke.tokens.check import fixed_ids
from archiver.text import plural, printable

if TYPE_CHECKING:
    from archiver.smoke.golden.record import Golden, GoldenInput
    from archiver.smoke.model import Model
    from archiver.smoke.trial import Trial

_Ids = tuple[tuple[int, ...], ...]


def compare_all(trial: Trial, model: Model, golden: Golden) -> Proof:
    """What of a record holds for a model in 32-bit floats, and what does not.

    Raises:
        FailedError: The libraries refuse a recorded input.
        SkippedError: Memory ran out.
    """
    findings = _token_faults(golden.tokens, fixed_ids(trial))
    proved = [] if findings or not golden.tokens else [_same_tokens(golden)]
    facts = {}
    for recorded in golden.inputs:
        with told_as("model-golden", f"A pass over the recorded input {recorded.name}"):
            result = _again(trial, model, golden, recorded)
        if isinstance(result, list):
            findings += result
            continue
        facts[recorded.name] = _facts(result)
        if result.holds:
            proved.append(f"{recorded.name}: {_numbers(result, golden)}")
        else:
            findings.append(_different(result, golden))
    made = f"the record was made with {_made_with(golden)}"
    return Proof((*proved, made) if proved else (), tuple(findings), facts)


def _again(
    trial: Trial, model: Model, golden: Golden, recorded: GoldenInput
) -> Comparison | list[Finding]:
    """How far the model is from the record at one input; findings if that cannot be told."""
    inputs = asked_again(trial, recorded)
    rows = model.module.config.get_text_config().vocab_size
    if inputs is None or max(recorded.ids + recorded.decoder_ids) >= rows:
        message = f"The recorded input {recorded.name} cannot be given to this model."
        return [_finding(message, _OTHER_MODEL)]
    found = answer(model, recorded.name, inputs, recorded.ties)
    if (found.ids, found.pixels) != (recorded.ids, recorded.pixels):
        message = "The fixed picture is prepared otherwise than when it was recorded."
        return [_finding(message, _OTHER_PICTURE)]
    shape = (recorded.positions, recorded.width)
    losses = bool(recorded.nll) == bool(found.nll.size)
    if found.output != golden.output or found.shape != shape or not losses:
        message = f"The output for {recorded.name} has not the recorded shape."
        return [_finding(message, _OTHER_MODEL)]
    return faults_of(found, model) or compare(recorded, found)


def _finding(message: str, hint: str) -> Finding:
    return Finding("model-golden", message, hint=hint)


def _token_faults(recorded: _Ids, found: _Ids) -> list[Finding]:
    """The fixed texts that become other ids than the recorded ones."""
    if recorded and not found:
        message = "The fixed texts were not compared: there is no tokenizer now, and there was one."
        return [Finding("model-not-tried", message)]
    moved = [
        number
        for number, pair in enumerate(zip(recorded, found, strict=False), 1)
        if pair[0] != pair[1]
    ]
    if not moved:
        return []
    message = (
        f"The tokenizer makes other ids of {len(moved)} of {plural(len(recorded), 'fixed text')} "
        f"than when they were recorded; the first is number {moved[0]}."
    )
    return [_finding(message, _OTHER_TOKENS)]


_OTHER_TOKENS: Final = (
    "tokenizer.json or tokenizer_config.json differ, or the libraries read them in another way."
)
_OTHER_PICTURE: Final = (
    "preprocessor_config.json differs, or a library prepares otherwise: compare it with upstream's."
)
_OTHER_MODEL: Final = (
    "The record is of another model, or config.json is not what it was: name this model's record, or "
    "make a new one with --record."
)
_OTHER_WEIGHTS: Final = (
    "The bytes are other ones, a tensor stands in another's place, or a library computes otherwise: "
    "'archiver audit' or 'archiver verify' proves the bytes; then compare the libraries' versions."
)


def _same_tokens(golden: Golden) -> str:
    return f"{plural(len(golden.tokens), 'fixed text')}: the recorded ids"


def _numbers(result: Comparison, golden: Golden) -> str:
    what = "last logits" if golden.output == "logits" else "mean hidden state"
    told = f"{what} within {result.last:.1e} (relative L2) of the record"
    if result.nll is not None:
        told += f", losses within {result.nll:.1e}"
    if result.ranks:
        told += f"; {result.ranks - result.moved} of {result.ranks} tokens ranked first the same"
    if result.settled:
        told += f"; {plural(result.settled, 'choice')} of experts that rounding tips, as recorded"
    return told


def _different(result: Comparison, golden: Golden) -> Finding:
    message = (
        f"The numbers are not those that were recorded. {result.name}: {_numbers(result, golden)}. "
        f"Rounding explains {TOLERANCE:.0e}. The record was made with {_made_with(golden)}."
    )
    return _finding(message, _OTHER_WEIGHTS)


def _made_with(golden: Golden) -> str:
    """Which torch, on what; of a record that tells nothing of it, that."""
    libraries, cpu = golden.environment.get("libraries"), golden.environment.get("cpu")
    torch = libraries.get("torch") if isinstance(libraries, dict) else None
    transformers = libraries.get("transformers") if isinstance(libraries, dict) else None
    return printable(f"torch {torch}, transformers {transformers}, on {cpu}")


def _facts(result: Comparison) -> dict[str, object]:
    facts: dict[str, object] = {"last": f"{result.last:.3e}"}
    if result.nll is not None:
        facts["losses"] = f"{result.nll:.3e}"
    return facts | {"ranks": result.ranks, "moved": result.moved, "settled": result.settled}
