"""What is fed to a model: the fixed text, the fixed picture; all of one row.

Each input is a dict of tensors by the names that transformers' ``forward`` takes them under.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final

from archiver.smoke.inputs import image_processor
from archiver.smoke.report import InapplicableError
from archiver.smoke.tokens.rows import rows_of
from archiver.smoke.tokens.texts import FORWARD_TEXT, IMAGE_TEXT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from archiver.smoke.trial import Trial

_IMAGE_IDS: Final = ("vision_start", "image", "vision_end")
_MOST: Final = 48
_FEWEST: Final = 8
_SPREAD: Final = 24
_GOLDEN: Final = 0x9E3779B1
"""2³² divided by the golden ratio: multiples of it spread evenly (Knuth, TAOCP 3, 6.4)."""


def text_ids(trial: Trial) -> tuple[int, ...]:
    """8 to 48 ids: the fixed text's, or without a usable tokenizer ids from all over the vocabulary.

    Raises:
        InapplicableError: The model has no vocabulary.
    """
    ids = _ids(trial, FORWARD_TEXT)[:_MOST]
    return ids if len(ids) >= _FEWEST else _spread(trial)


def _ids(trial: Trial, text: str, **options: Any) -> tuple[int, ...]:
    """The tokenizer's ids, if there is one and the embedding has a row for each; else none."""
    rows = _rows(trial)
    found = () if trial.tokenizer is None else trial.tokenizer(text, **options)["input_ids"]
    ids = tuple(map(int, found))
    return ids if all(0 <= one < rows for one in ids) else ()


def _rows(trial: Trial) -> int:
    rows = rows_of(trial.config) or _embedded(trial)
    if rows is None:
        raise InapplicableError("It takes no text: its configuration has no vocab_size.")
    return rows


def _embedded(trial: Trial) -> int | None:
    """Rows of the built model's embedding: config.json may leave out what is the class's default."""
    if trial.model is None:
        return None
    try:
        embedding = trial.model.module.get_input_embeddings()
    except NotImplementedError:  # it has none
        return None
    rows = getattr(embedding, "num_embeddings", None)
    return rows if isinstance(rows, int) else None


def _spread(trial: Trial) -> tuple[int, ...]:
    """Ids that mean nothing, but none that config.json gives a role, such as a picture's place."""
    rows, roles = _rows(trial), _roles(trial)
    ids = (number * _GOLDEN % 2**32 * rows >> 32 for number in range(1, _SPREAD + len(roles) + 1))
    return tuple(one for one in ids if one not in roles)[:_SPREAD]


def _roles(trial: Trial) -> set[int]:
    parts = (trial.config.raw, trial.config.text)
    named = (part[key] for part in parts for key in part if key.endswith("_token_id"))
    return {value for value in named if isinstance(value, int)}


def text_inputs(trial: Trial) -> dict[str, Tensor]:
    """The fixed text: ``input_ids`` of shape (1, n), and what goes with it.

    Raises:
        InapplicableError: The model takes no ids.
    """
    return ids_inputs(text_ids(trial), trial)


def ids_inputs(ids: Sequence[int], trial: Trial) -> dict[str, Tensor]:
    """Inputs of shape (1, n) from ids, such as recorded ones: ``input_ids``, ``attention_mask``.

    A model with an encoder and a decoder also gets ``decoder_input_ids``: its start, then the ids.

    Raises:
        InapplicableError: The model takes no ids.
    """
    import torch  # noqa: PLC0415 - of the extra

    _refuse_other_inputs(trial)
    row = torch.tensor([list(ids)], dtype=torch.long)
    inputs = {"input_ids": row, "attention_mask": torch.ones_like(row)}
    if trial.config.raw.get("is_encoder_decoder") is True or _module(trial, "is_encoder_decoder"):
        start = torch.tensor([[_decoder_start(trial)]])
        inputs["decoder_input_ids"] = torch.cat([start, row[:, :-1]], dim=1)
    return _taken(trial, inputs)


def _module(trial: Trial, setting: str) -> Any:
    """A setting of the built model's configuration; None before it is built."""
    return None if trial.model is None else getattr(trial.model.module.config, setting, None)


def _refuse_other_inputs(trial: Trial) -> None:
    if trial.model is None:
        return
    name = getattr(trial.model.module, "main_input_name", "input_ids")
    if name != "input_ids":
        raise InapplicableError(f"It takes no text but {name}, for which there is no fixed input.")
    if hasattr(trial.model.module, "get_text_features"):  # such as CLIP: a tower for each
        told = "It compares texts with what is no text, for which there is no fixed input."
        raise InapplicableError(told)


def _decoder_start(trial: Trial) -> int:
    for key in ("decoder_start_token_id", "bos_token_id", "pad_token_id"):
        for found in (trial.config.raw.get(key), _module(trial, key)):
            if isinstance(found, int) and 0 <= found < _rows(trial):
                return found
    return 0


def _taken(trial: Trial, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Those inputs that the model has a parameter for; all of them before it is built."""
    if trial.model is None:
        return inputs
    parameters = _parameters(trial.model.module)
    if any(one.kind is one.VAR_KEYWORD for one in parameters.values()):
        return inputs
    return {name: tensor for name, tensor in inputs.items() if name in parameters}


def why_no_image(trial: Trial) -> str:
    """Why the fixed picture is not tried, as a sentence; ``""`` if it is, or if there is no vision tower.

    Raises:
        FailedError: ``preprocessor_config.json`` cannot be used.
    """
    if not _sees(trial):
        return ""
    ids = [trial.config.raw.get(f"{name}_token_id") for name in _IMAGE_IDS]
    if not all(isinstance(one, int) and 0 <= one < _rows(trial) for one in ids):
        return (
            "config.json does not say by which tokens a picture is held; only Qwen's way is tried."
        )
    return image_processor.not_tried(trial)


def _sees(trial: Trial) -> bool:
    """Whether there is a vision tower, in the configuration and in the class that is built."""
    built = trial.model is None or "pixel_values" in _parameters(trial.model.module)
    return trial.config.vision is not None and built


def _parameters(module: Any) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(module.forward).parameters


def image_inputs(trial: Trial) -> dict[str, Tensor] | None:
    """The fixed picture and a question; None if there is no vision tower, or ``why_no_image`` says why.

    The ids are ``<|vision_start|>``, n times ``<|image_pad|>``, ``<|vision_end|>``, and a text; n is the
    number of patches divided by the square of the merge size.

    Returns:
        ``input_ids``, ``attention_mask`` and ``mm_token_type_ids`` (1 where the picture is, else 0) of
        shape (1, n + …), ``pixel_values`` (patches, numbers in a patch) and ``image_grid_thw`` (1, 3).

    Raises:
        FailedError: ``preprocessor_config.json`` cannot be used, or does not fit the vision tower.
    """
    if not _sees(trial) or why_no_image(trial):
        return None
    data, count = image_processor.prepared(trial)
    start, pad, end = (trial.config.raw[f"{name}_token_id"] for name in _IMAGE_IDS)
    text = _ids(trial, IMAGE_TEXT, add_special_tokens=False)[:_MOST] or _spread(trial)
    inputs = ids_inputs([start, *[pad] * count, end, *text], trial)
    kinds = (inputs["input_ids"] == pad).int()
    return inputs | _taken(trial, {"mm_token_type_ids": kinds, **data})
