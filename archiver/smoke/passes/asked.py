"""What a model is asked: the fixed text, the fixed picture, and for embeddings fixed sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from archiver.smoke.inputs.prepared import ids_inputs, image_inputs, text_inputs
from archiver.smoke.passes.outcome import answer
from archiver.smoke.tokens.texts import ASSISTANT_TEXT, SYSTEM_TEXT, TEXTS, USER_TEXT

if TYPE_CHECKING:
    from archiver.smoke.model import Answer
    from collections.abc import Iterator

    from torch import Tensor

    from archiver.smoke.golden.record import GoldenInput
    from archiver.smoke.model import Model
    from archiver.smoke.trial import Trial

SENTENCES: Final = (USER_TEXT, SYSTEM_TEXT, ASSISTANT_TEXT, *TEXTS[:4])


def answers_of(trial: Trial, model: Model) -> Iterator[Answer]:
    """The answers to all inputs that suit the model, one pass each."""
    first = answer(model, "text", text_inputs(trial))
    yield first
    picture = image_inputs(trial)
    if picture is not None:
        yield answer(model, "image", picture)
    if first.output == "hidden":
        for number, inputs in enumerate(sentences(trial)):
            yield answer(model, f"sentence-{number}", inputs)


def sentences(trial: Trial) -> Iterator[dict[str, Tensor]]:
    """The fixed sentences, ready for the model; none if there is no tokenizer."""
    if trial.tokenizer is not None:
        for text in SENTENCES:
            yield ids_inputs(trial.tokenizer(text)["input_ids"], trial)


def asked_again(trial: Trial, recorded: GoldenInput) -> dict[str, Tensor] | None:
    """A recorded input; a picture is prepared anew. None if the model sees no pictures."""
    import torch  # noqa: PLC0415 - of the extra

    if recorded.name == "image":
        return image_inputs(trial)
    given = ids_inputs(recorded.ids, trial)
    if recorded.decoder_ids:
        given["decoder_input_ids"] = torch.tensor([recorded.decoder_ids])
    return given
