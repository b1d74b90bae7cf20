"""What a model is asked: the fixed text, the fixed picture, and for embeddings fixed sentences."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final

from archiver.smoke.passes import image
from archiver.smoke.passes.answer import run_pass
from archiver.smoke.report import InapplicableError
from archiver.smoke.tokenizer.special_tokens import rows_of
from archiver.smoke.tokenizer.texts import (
    ASSISTANT_TEXT,
    FORWARD_TEXT,
    IMAGE_TEXT,
    SYSTEM_TEXT,
    TEXTS,
    USER_TEXT,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor

    from archiver.smoke.golden.record import GoldenInput
    from archiver.smoke.model import Answer, Model
    from archiver.smoke.session import Session


_IMAGE_IDS: Final = ("vision_start", "image", "vision_end")
_MOST: Final = 48
_FEWEST: Final = 8
_SPREAD: Final = 24
_GOLDEN: Final = 0x9E3779B1
"""2³² divided by the golden ratio: multiples of it spread evenly (Knuth, TAOCP 3, 6.4)."""


def text_ids(session: Session) -> tuple[int, ...]:
    """Return 8 to 48 ids: the fixed text's, or without a usable tokenizer ids from all over the vocabulary.

    Raises:
        InapplicableError: The model has no vocabulary.
    """
    ids = _ids(session, FORWARD_TEXT)[:_MOST]
    return ids if len(ids) >= _FEWEST else _spread(session)


def _ids(session: Session, text: str, **options: Any) -> tuple[int, ...]:
    """Return the tokenizer's ids, if there is one and the embedding has a row for each; else none."""
    rows = _rows(session)
    ids_found = () if session.tokenizer is None else session.tokenizer(text, **options)["input_ids"]
    ids = tuple(map(int, ids_found))
    return ids if all(0 <= token < rows for token in ids) else ()


def _rows(session: Session) -> int:
    rows = rows_of(session.config) or _embedded(session)
    if rows is None:
        raise InapplicableError("It takes no text: its configuration has no vocab_size.")
    return rows


def _embedded(session: Session) -> int | None:
    """Return rows of the built model's embedding: config.json may leave out what is the class's default."""
    if session.model is None:
        return None
    try:
        embedding = session.model.module.get_input_embeddings()
    except NotImplementedError:  # it has none
        return None
    rows = getattr(embedding, "num_embeddings", None)
    return rows if isinstance(rows, int) else None


def _spread(session: Session) -> tuple[int, ...]:
    """Return ids that mean nothing, but none that config.json gives a role, such as a picture's place."""
    rows, roles = _rows(session), _roles(session)
    ids = (number * _GOLDEN % 2**32 * rows >> 32 for number in range(1, _SPREAD + len(roles) + 1))
    return tuple(token for token in ids if token not in roles)[:_SPREAD]


def _roles(session: Session) -> set[int]:
    parts = (session.config.raw, session.config.text)
    named = (part[key] for part in parts for key in part if key.endswith("_token_id"))
    return {value for value in named if isinstance(value, int)}


def text_inputs(session: Session) -> dict[str, Tensor]:
    """Return the fixed text: ``input_ids`` of shape (1, n), and what goes with it.

    Raises:
        InapplicableError: The model takes no ids.
    """
    return ids_inputs(text_ids(session), session)


def ids_inputs(ids: Sequence[int], session: Session) -> dict[str, Tensor]:
    """Return inputs of shape (1, n) from ids, such as recorded ones: ``input_ids``, ``attention_mask``.

    A model with an encoder and a decoder also gets ``decoder_input_ids``: its start, then the ids.

    Raises:
        InapplicableError: The model takes no ids.
    """
    import torch  # noqa: PLC0415 - of the extra

    _refuse_other_inputs(session)
    row = torch.tensor([list(ids)], dtype=torch.long)
    inputs = {"input_ids": row, "attention_mask": torch.ones_like(row)}
    if session.config.raw.get("is_encoder_decoder") is True or _module(
        session, "is_encoder_decoder"
    ):
        start = torch.tensor([[_decoder_start(session)]])
        inputs["decoder_input_ids"] = torch.cat([start, row[:, :-1]], dim=1)
    return _taken(session, inputs)


def _module(session: Session, setting: str) -> Any:
    """Return a setting of the built model's configuration; None before it is built."""
    return None if session.model is None else getattr(session.model.module.config, setting, None)


def _refuse_other_inputs(session: Session) -> None:
    if session.model is None:
        return
    name = getattr(session.model.module, "main_input_name", "input_ids")
    if name != "input_ids":
        raise InapplicableError(f"It takes no text but {name}, for which there is no fixed input.")
    if hasattr(session.model.module, "get_text_features"):  # such as CLIP: a tower for each
        message = "It compares texts with what is no text, for which there is no fixed input."
        raise InapplicableError(message)


def _decoder_start(session: Session) -> int:
    for key in ("decoder_start_token_id", "bos_token_id", "pad_token_id"):
        for start in (session.config.raw.get(key), _module(session, key)):
            if isinstance(start, int) and 0 <= start < _rows(session):
                return start
    return 0


def _taken(session: Session, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return those inputs that the model has a parameter for; all of them before it is built."""
    if session.model is None:
        return inputs
    parameters = _parameters(session.model.module)
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return inputs
    return {name: tensor for name, tensor in inputs.items() if name in parameters}


def why_no_image(session: Session) -> str:
    """Return why the fixed picture is not tried, as a sentence; ``""`` if it is, or nothing sees.

    Raises:
        FailedError: ``preprocessor_config.json`` cannot be used.
    """
    if not _sees(session):
        return ""
    ids = [session.config.raw.get(f"{name}_token_id") for name in _IMAGE_IDS]
    if not all(isinstance(token, int) and 0 <= token < _rows(session) for token in ids):
        return (
            "config.json does not say by which tokens a picture is held; only Qwen's way is tried."
        )
    return image.not_tried(session)


def _sees(session: Session) -> bool:
    """Return whether there is a vision tower, in the configuration and in the class that is built."""
    built = session.model is None or "pixel_values" in _parameters(session.model.module)
    return session.config.vision is not None and built


def _parameters(module: Any) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(module.forward).parameters


def image_inputs(session: Session) -> dict[str, Tensor] | None:
    """Return the fixed picture and a question; None if nothing sees, or ``why_no_image`` says why.

    The ids are ``<|vision_start|>``, n times ``<|image_pad|>``, ``<|vision_end|>``, and a text; n is the
    number of patches divided by the square of the merge size.

    Returns:
        ``input_ids``, ``attention_mask`` and ``mm_token_type_ids`` (1 where the picture is, else 0) of
        shape (1, n + …), ``pixel_values`` (patches, numbers in a patch) and ``image_grid_thw`` (1, 3).

    Raises:
        FailedError: ``preprocessor_config.json`` cannot be used, or does not fit the vision tower.
    """
    if not _sees(session) or why_no_image(session):
        return None
    data, count = image.prepared(session)
    start, pad, end = (session.config.raw[f"{name}_token_id"] for name in _IMAGE_IDS)
    text = _ids(session, IMAGE_TEXT, add_special_tokens=False)[:_MOST] or _spread(session)
    inputs = ids_inputs([start, *[pad] * count, end, *text], session)
    kinds = (inputs["input_ids"] == pad).int()
    return inputs | _taken(session, {"mm_token_type_ids": kinds, **data})


# ---- what a model is asked


SENTENCES: Final = (USER_TEXT, SYSTEM_TEXT, ASSISTANT_TEXT, *TEXTS[:4])


def answers_of(session: Session, model: Model) -> Iterator[Answer]:
    """Yield the answers to all inputs that suit the model, one pass each."""
    first = run_pass(model, "text", text_inputs(session))
    yield first
    picture = image_inputs(session)
    if picture is not None:
        yield run_pass(model, "image", picture)
    if first.output == "hidden":
        for number, inputs in enumerate(sentences(session)):
            yield run_pass(model, f"sentence-{number}", inputs)


def sentences(session: Session) -> Iterator[dict[str, Tensor]]:
    """Yield the fixed sentences, ready for the model; none if there is no tokenizer."""
    if session.tokenizer is not None:
        for text in SENTENCES:
            yield ids_inputs(session.tokenizer(text)["input_ids"], session)


def recorded_inputs(session: Session, recorded: GoldenInput) -> dict[str, Tensor] | None:
    """Return a recorded input; a picture is prepared anew. None if the model sees no pictures."""
    import torch  # noqa: PLC0415 - of the extra

    if recorded.name == "image":
        return image_inputs(session)
    given = ids_inputs(recorded.ids, session)
    if recorded.decoder_ids:
        given["decoder_input_ids"] = torch.tensor([recorded.decoder_ids])
    return given
