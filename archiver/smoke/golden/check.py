"""Level ``golden``: the model gives the numbers that it gave once, or they are recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from archiver.errors import SkippedError
from archiver.smoke import libraries
from archiver.smoke.golden.again import compare_all
from archiver.smoke.golden.compare import recorded_input
from archiver.smoke.golden.record import VERSION, Golden, GoldenInput, parse_golden
from archiver.smoke.guard import told_as
from archiver.smoke.hardware import environment
from archiver.smoke.loading.check import build_model
from archiver.smoke.passes.asked import answers_of
from archiver.smoke.passes.exact import ieee_float32
from archiver.smoke.passes.forward import faults_of
from archiver.smoke.report import FailedError, Proof
from archiver.smoke.tokens.check import fixed_ids
from archiver.text import plural

if TYPE_CHECKING:
    from archiver.smoke.model import Answer, Model
    from archiver.smoke.trial import Trial

__all__ = ["Golden", "GoldenInput", "check_golden", "parse_golden"]


def check_golden(trial: Trial) -> Proof:
    """Compare with ``trial.wishes.golden``; with ``trial.wishes.record`` also set ``trial.recorded``.

    The model is built anew in 32-bit floats, unless it is there in these.

    Raises:
        SkippedError: There is no record, or the model in 32-bit floats does not fit.
        FailedError: The model's numbers cannot be used.
    """
    golden = trial.wishes.golden
    if golden is None and not trial.wishes.record:
        raise SkippedError(
            "No golden record: none was made.", hint="--record makes one from this run."
        )
    libraries.require("torch", "transformers")
    model = _float32(trial)
    with ieee_float32():
        compared = compare_all(trial, model, golden) if golden else Proof(())
        made = _record(trial, model) if trial.wishes.record else ()
    return Proof((*compared.proved, *made), compared.findings, compared.facts)


def _float32(trial: Trial) -> Model:
    if trial.model is None or trial.model.dtype != "float32":
        trial.model = None  # its memory is needed
        trial.model = build_model(trial, "float32")
    return trial.model


def _record(trial: Trial, model: Model) -> tuple[str, ...]:
    with told_as("model-golden", "A pass in 32-bit floats"):
        answers = tuple(answers_of(trial, model))
    findings = [finding for one in answers for finding in faults_of(one, model)]
    if findings:
        raise FailedError(*findings)
    trial.recorded = _golden(answers, fixed_ids(trial))
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
