"""Level ``golden``: the model gives the numbers that it gave once, or they are recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from archiver.archive.findings import Finding
from archiver.errors import SkippedError
from archiver.smoke import libraries
from archiver.smoke.golden.compare import TOLERANCE, Comparison, compare, recorded_input
from archiver.smoke.golden.record import VERSION, Golden, GoldenInput, parse_golden
from archiver.smoke.hardware import environment
from archiver.smoke.loading.check import build_model
from archiver.smoke.passes.answer import ieee_float32, run_pass
from archiver.smoke.passes.forward import faults_of
from archiver.smoke.passes.inputs import answers_of, recorded_inputs
from archiver.smoke.report import FailedError, Proof, library_errors
from archiver.smoke.tokenizer.check import fixed_ids
from archiver.text import plural, printable

if TYPE_CHECKING:
    from archiver.smoke.model import Answer, Model
    from archiver.smoke.session import Session


# ---- the recorded inputs, run again


_Ids = tuple[tuple[int, ...], ...]


def compare_all(session: Session, model: Model, golden: Golden) -> Proof:
    """Return what of a record holds for a model in 32-bit floats, and what does not.

    Raises:
        FailedError: The libraries refuse a recorded input.
        SkippedError: Memory ran out.
    """
    findings = _token_faults(golden.tokens, fixed_ids(session))
    proved = [] if findings or not golden.tokens else [_same_tokens(golden)]
    facts = {}
    for recorded in golden.inputs:
        with library_errors("model-golden", f"A pass over the recorded input {recorded.name}"):
            result = _again(session, model, golden, recorded)
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
    session: Session, model: Model, golden: Golden, recorded: GoldenInput
) -> Comparison | list[Finding]:
    """Return how far the model is from the record at one input; findings if that cannot be told."""
    inputs = recorded_inputs(session, recorded)
    rows = model.module.config.get_text_config().vocab_size
    if inputs is None or max(recorded.ids + recorded.decoder_ids) >= rows:
        message = f"The recorded input {recorded.name} cannot be given to this model."
        return [_finding(message, _OTHER_MODEL)]
    result = run_pass(model, recorded.name, inputs, recorded.ties)
    if (result.ids, result.pixels) != (recorded.ids, recorded.pixels):
        message = "The fixed picture is prepared otherwise than when it was recorded."
        return [_finding(message, _OTHER_PICTURE)]
    shape = (recorded.positions, recorded.width)
    losses = bool(recorded.nll) == bool(result.nll.size)
    if result.output != golden.output or result.shape != shape or not losses:
        message = f"The output for {recorded.name} has not the recorded shape."
        return [_finding(message, _OTHER_MODEL)]
    return faults_of(result, model) or compare(recorded, result)


def _finding(message: str, hint: str) -> Finding:
    return Finding("model-golden", message, hint=hint)


def _token_faults(recorded: _Ids, ids_now: _Ids) -> list[Finding]:
    """Return the fixed texts that become other ids than the recorded ones."""
    if recorded and not ids_now:
        message = "The fixed texts were not compared: there is no tokenizer now, and there was one."
        return [Finding("model-not-tried", message)]
    moved = [
        number
        for number, pair in enumerate(zip(recorded, ids_now, strict=False), 1)
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
    message = f"{what} within {result.last:.1e} (relative L2) of the record"
    if result.nll is not None:
        message += f", losses within {result.nll:.1e}"
    if result.ranks:
        message += f"; {result.ranks - result.moved} of {result.ranks} tokens ranked first the same"
    if result.settled:
        message += (
            f"; {plural(result.settled, 'choice')} of experts that rounding tips, as recorded"
        )
    return message


def _different(result: Comparison, golden: Golden) -> Finding:
    message = (
        f"The numbers are not those that were recorded. {result.name}: {_numbers(result, golden)}. "
        f"Rounding explains {TOLERANCE:.0e}. The record was made with {_made_with(golden)}."
    )
    return _finding(message, _OTHER_WEIGHTS)


def _made_with(golden: Golden) -> str:
    """Return with which torch it was made, on what; "None" where the record does not say."""
    libraries, cpu = golden.environment.get("libraries"), golden.environment.get("cpu")
    torch = libraries.get("torch") if isinstance(libraries, dict) else None
    transformers = libraries.get("transformers") if isinstance(libraries, dict) else None
    return printable(f"torch {torch}, transformers {transformers}, on {cpu}")


def _facts(result: Comparison) -> dict[str, object]:
    facts: dict[str, object] = {"last": f"{result.last:.3e}"}
    if result.nll is not None:
        facts["losses"] = f"{result.nll:.3e}"
    return facts | {"ranks": result.ranks, "moved": result.moved, "settled": result.settled}


# ---- the level


def check_golden(session: Session) -> Proof:
    """Compare with the record that was given; where one is to be made, set ``session.recorded``.

    The model is built anew in 32-bit floats, unless it is there in these.

    Raises:
        SkippedError: There is no record, or the model in 32-bit floats does not fit.
        FailedError: The model's numbers cannot be used.
    """
    golden = session.settings.golden
    if golden is None and not session.settings.record:
        raise SkippedError(
            "No golden record: none was made.", hint="--record makes one from this run."
        )
    libraries.require("torch", "transformers")
    model = _float32(session)
    with ieee_float32():
        compared = compare_all(session, model, golden) if golden else Proof(())
        made = _record(session, model) if session.settings.record else ()
    return Proof((*compared.proved, *made), compared.findings, compared.facts)


def _float32(session: Session) -> Model:
    if session.model is None or session.model.dtype != "float32":
        session.model = None  # its memory is needed
        session.model = build_model(session, "float32")
    return session.model


def _record(session: Session, model: Model) -> tuple[str, ...]:
    with library_errors("model-golden", "A pass in 32-bit floats"):
        answers = tuple(answers_of(session, model))
    findings = [finding for answer in answers for finding in faults_of(answer, model)]
    if findings:
        raise FailedError(*findings)
    session.recorded = _golden(answers, fixed_ids(session))
    return (f"recorded: what {plural(len(answers), 'input')} gave in 32-bit floats",)


def _golden(answers: tuple[Answer, ...], tokens: tuple[tuple[int, ...], ...]) -> Golden:
    golden = Golden(
        version=VERSION,
        dtype="float32",
        attention="eager",
        output=answers[0].output,
        inputs=tuple(map(recorded_input, answers)),
        tokens=tokens,
        environment=environment(),
    )
    return parse_golden(msgspec.to_builtins(golden), "The new golden record")
