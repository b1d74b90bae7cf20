"""Level ``forward``: one pass over each fixed input gives finite numbers of the right shape."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from archiver.archive.findings import Finding
from archiver.errors import SkippedError
from archiver.smoke import libraries
from archiver.smoke.model import Answer, Outcome
from archiver.smoke.passes.answer import run_pass
from archiver.smoke.passes.inputs import answers_of, image_inputs, why_no_image
from archiver.smoke.report import FailedError, Proof, library_errors
from archiver.text import human_bytes, plural, printable

if TYPE_CHECKING:
    from torch import Tensor

    from archiver.smoke.model import Model
    from archiver.smoke.session import Session


# ---- whether the picture counts


def picture_counts(
    session: Session, model: Model, answers: tuple[Answer, ...]
) -> tuple[tuple[str, ...], tuple[Finding, ...]]:
    """Return what was proved, and what was found wrong, by a second look at another picture.

    A streamed model is not asked again: it would be read a second time for this alone.
    """
    why = why_no_image(session)
    if why:
        return (), (Finding("model-not-tried", f"No picture was tried: {why}"),)
    before = next((answer for answer in answers if answer.name == "image"), None)
    if before is None or model.mode == "streamed":
        return (), ()
    with library_errors("model-output", "A pass with another picture"):
        after = run_pass(model, "image", _negative(image_inputs(session) or {}))
    if np.array_equal(before.tail, after.tail):
        message = "The picture makes no difference: its negative gives the very same logits."
        return (), (Finding("model-output", message),)
    return ("the logits after the picture depend on it",), ()


def _negative(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the same input with each value of the picture negated; the rest are ids."""
    return {
        name: -tensor if tensor.is_floating_point() else tensor for name, tensor in inputs.items()
    }


# ---- the level


def check_forward(session: Session) -> Proof:
    """Run the fixed text, and the fixed picture where the model sees; sets ``session.outcome``.

    Raises:
        SkippedError: The libraries are missing, or memory is.
        FailedError: The model refuses the input, or gives nothing that can be used later.
    """
    model = ready_model(session)
    with library_errors("model-output", "A pass through the model"):
        answers = tuple(answers_of(session, model))
    findings = [finding for answer in answers for finding in faults_of(answer, model)]
    if findings:
        raise FailedError(*findings)
    session.outcome = Outcome(answers)
    proved = [_proved(answer) for answer in answers if not answer.name.startswith("sentence")]
    proved += _sentences(answers)
    said, faults = picture_counts(session, model, answers)
    return Proof((*proved, *said, *_read(session, model)), faults, _facts(answers))


def ready_model(session: Session) -> Model:
    """Return the model that level ``load`` built; SkippedError if there is none."""
    libraries.require("torch", "transformers")
    if session.model is None:
        raise SkippedError("No model was loaded.", hint="Run level load before this one.")
    return session.model


def faults_of(answer: Answer, model: Model) -> list[Finding]:
    """Return what is wrong with an answer whatever its numbers should be: a shape, or no numbers."""
    expected = (_positions(answer, model), _width(answer, model))
    if answer.shape != expected:
        shape, due = (f"{rows} x {width}" for rows, width in (answer.shape, expected))
        message = f"The {answer.output} of the {_called(answer)} are {shape} numbers, not {due}."
        return [Finding("model-output", message, hint=_OTHER)]
    if answer.wrong:
        return [_not_finite(answer)]
    loss = answer.loss
    if loss is not None and not math.isfinite(loss):
        message = f"The loss of the {_called(answer)} is not finite, though its logits are."
        return [Finding("model-output", message, hint=_OTHER)]
    return []


_OTHER = (
    "Compare with another copy or revision; 'archiver audit' shows whether the bytes are right."
)


def _positions(answer: Answer, model: Model) -> int:
    """Return how many rows there should be; a head of another kind may give one for the whole input."""
    other = answer.output == "logits" and model.module.get_output_embeddings() is None
    return 1 if other and answer.shape[0] == 1 else len(answer.decoder_ids or answer.ids)


def _width(answer: Answer, model: Model) -> int:
    """Return how many numbers a position should have; a head of another kind is taken as right."""
    config = model.module.config.get_text_config()
    if answer.output == "hidden":
        return int(getattr(config, "hidden_size", answer.shape[1]))
    if model.module.get_output_embeddings() is None:
        return answer.shape[1]
    return int(config.vocab_size)


def _not_finite(answer: Answer) -> Finding:
    message = (
        f"The {answer.output} of the {_called(answer)} are not finite at {len(answer.wrong)} of "
        f"{plural(answer.shape[0], 'position')}, first at position {answer.wrong[0]}."
    )
    if answer.origin:
        message += (
            f" They come from {printable(answer.origin)}, the first part to give such a number."
        )
    return Finding("model-output", message, hint=_OTHER)


def _called(answer: Answer) -> str:
    return {"text": "fixed text", "image": "fixed picture"}.get(answer.name, f"fixed {answer.name}")


def _proved(answer: Answer) -> str:
    tokens = plural(len(answer.decoder_ids or answer.ids), "token")
    what = f"{_called(answer)}: {tokens}, {answer.shape[1]:,} finite "
    what += "logits" if answer.output == "logits" else "numbers"
    what += " each" if answer.shape[0] > 1 else ""
    if answer.loss is None:
        return what
    return f"{what}; loss {answer.loss:.2f} nats a token (chance: {math.log(answer.shape[1]):.2f})"


def _sentences(answers: tuple[Answer, ...]) -> list[str]:
    count = sum(answer.name.startswith("sentence") for answer in answers)
    return [f"embeddings of {plural(count, 'fixed sentence')}"] if count else []


def _read(session: Session, model: Model) -> list[str]:
    """Return what was read, where that is not everything."""
    if model.mode != "streamed":
        return []
    tensors = session.tensors
    whole = sum(tensor.size for tensor in tensors.values())
    said = (
        f"read {len(model.reads.tensors):,} of {plural(len(tensors), 'tensor')}, "
        f"{human_bytes(model.reads.size)} in all passes so far, of {human_bytes(whole)} of weights; "
        "digests cover the rest"
    )
    return [said]


def _facts(answers: tuple[Answer, ...]) -> dict[str, Any]:
    return {answer.name: _facts_of(answer) for answer in answers}


def _facts_of(answer: Answer) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "tokens": len(answer.ids),
        "positions": answer.shape[0],
        "width": answer.shape[1],
    }
    if answer.loss is not None:
        facts["loss"] = f"{answer.loss:.6f}"
        facts["chance"] = f"{math.log(answer.shape[1]):.6f}"
        facts["losses"] = [f"{value:.4f}" for value in answer.nll.tolist()]
    return facts
