"""Whether a model's picture was tried, and made a difference to what it says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from archiver.archive.findings import Finding
from archiver.smoke.guard import told_as
from archiver.smoke.inputs.prepared import image_inputs, why_no_image
from archiver.smoke.passes.outcome import answer

if TYPE_CHECKING:
    from archiver.smoke.model import Answer
    from torch import Tensor

    from archiver.smoke.model import Model
    from archiver.smoke.trial import Trial


def picture_counts(
    trial: Trial, model: Model, answers: tuple[Answer, ...]
) -> tuple[tuple[str, ...], tuple[Finding, ...]]:
    """What was proved, and what was found wrong, by a second look at another picture.

    A streamed model is not asked again: it would be read a second time for this alone.
    """
    why = why_no_image(trial)
    if why:
        return (), (Finding("model-not-tried", f"No picture was tried: {why}"),)
    before = next((one for one in answers if one.name == "image"), None)
    if before is None or model.mode == "streamed":
        return (), ()
    with told_as("model-output", "A pass with another picture"):
        after = answer(model, "image", _negative(image_inputs(trial) or {}))
    if np.array_equal(before.tail, after.tail):
        message = "The picture makes no difference: its negative gives the very same logits."
        return (), (Finding("model-output", message),)
    return ("the logits after the picture depend on it",), ()


def _negative(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same input with each value of the picture negated; the rest are ids."""
    return {
        name: -tensor if tensor.is_floating_point() else tensor for name, tensor in inputs.items()
    }
