"""What a model makes of an input: numbers, kept small, in 32-bit floats on the CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from archiver.digest import blake3_hex
from archiver.errors import SkippedError
from archiver.smoke.golden.record import RANKED_POSITIONS
from archiver.smoke.model import Answer, Floats, Output, Tie
from archiver.smoke.passes.nonfinite import FirstNonFinite
from archiver.smoke.passes.ties import Ties

if TYPE_CHECKING:
    from torch import Tensor

    from archiver.smoke.model import Model

_ROWS: Final = 32
"""Rows of logits that are turned into 32-bit floats at once: 32 MB for a vocabulary of 248,320."""


def answer(
    model: Model, name: str, inputs: dict[str, Tensor], recorded: tuple[Tie, ...] = ()
) -> Answer:
    """Run the model once, without a cache; ``recorded``: how ties were settled before.

    Raises:
        SkippedError: What it gives is of another kind than is known here.
    """
    with FirstNonFinite(model.module) as first, Ties(recorded) as ties:
        output = model(inputs, **_options(model.module))
    rows, kind = _rows(output)
    decoder = inputs.get("decoder_input_ids")
    ids = inputs["input_ids"][0]
    wrong = (~rows.isfinite().all(dim=-1)).nonzero().flatten().tolist()
    nll = _nll(rows, ids if decoder is None else decoder[0]) if _predicts_next(model, kind) else []
    return Answer(
        name=name,
        ids=tuple(ids.tolist()),
        decoder_ids=() if decoder is None else tuple(decoder[0].tolist()),
        output=kind,
        shape=(rows.shape[0], rows.shape[1]),
        tail=_tail(rows, kind),
        nll=np.array(nll, np.float32),
        wrong=tuple(wrong),
        origin=first.where if wrong else "",
        pixels=digest_of_pixels(inputs),
        ties=ties.found,
        settled=ties.settled,
    )


def _options(module: Any) -> dict[str, Any]:
    """A cache is of use only to those who go on; it would cost memory here."""
    return {"use_cache": False} if module.can_generate() else {}


def _rows(output: Any) -> tuple[Tensor, Output]:
    """Logits or hidden states as n x w."""
    heads = [name for name in output if name.endswith("logits") and output[name] is not None]
    kind: Output = "logits" if heads else "hidden"
    names = ("logits", *heads) if heads else ("last_hidden_state", "pooler_output")
    found = next((output[name] for name in names if output.get(name) is not None), None)
    if found is None:
        raise SkippedError(
            "It gives neither logits nor hidden states, so there is nothing to judge."
        )
    return found.reshape(-1, found.shape[-1]), kind


def _predicts_next(model: Model, kind: Output) -> bool:
    return kind == "logits" and model.module.can_generate()


def _tail(rows: Tensor, kind: Output) -> Floats:
    kept = rows[-RANKED_POSITIONS:].float()
    if kind == "hidden":  # as sentence embeddings are made; a single input has no padding
        kept = rows.float().mean(dim=0, keepdim=True)
    found: Floats = kept.cpu().numpy()
    return found


def _nll(rows: Tensor, ids: Tensor) -> list[float]:
    from torch.nn.functional import cross_entropy  # noqa: PLC0415 - of the extra

    found: list[float] = []
    targets = ids[1:].to(rows.device)
    for begin in range(0, len(targets), _ROWS):
        wanted = targets[begin : begin + _ROWS]
        logits = rows[begin : begin + len(wanted)].float()
        found += cross_entropy(logits, wanted, reduction="none").tolist()
    return found


def digest_of_pixels(inputs: dict[str, Tensor]) -> str:
    """BLAKE3 of the picture's values as bytes; ``""`` if the input has no picture."""
    values = next((one for one in inputs.values() if one.is_floating_point()), None)
    if values is None:
        return ""
    levels = (values.float().cpu() * 127.5 + 127.5).round().clamp(0, 255)
    return blake3_hex(levels.byte().numpy().tobytes())
