"""Special tokens exist, with the ids that the configuration gives them; ids are rows of the embedding."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from archiver.archive.findings import Finding
from archiver.smoke.tokenizer.tokenizer_file import TOKENIZER, json_of
from archiver.text import plural, printable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from archiver.smoke.checkpoint.config import ModelConfig
    from archiver.smoke.checkpoint.files import Checkpoint, StoredTensor
    from archiver.smoke.tokenizer.tokenizer_file import AddedToken


# ---- rows of the embedding


_TABLE: Final = "embed_tokens.weight"
_MOST_SPARE: Final = 64
_ROWS_HINT: Final = "Compare the tokenizer's files and config.json with upstream's."


def rows_of(config: ModelConfig) -> int | None:
    """Return how many rows the embedding has, so that every id must be below; None if it is not said."""
    rows = config.text.get("vocab_size")
    return rows if isinstance(rows, int) and not isinstance(rows, bool) and rows > 0 else None


def stored_rows(config: ModelConfig, tensors: Iterable[StoredTensor]) -> int | None:
    """Return the same, with the few rows that some classes have beyond ``vocab_size`` (Mllama: 8)."""
    rows = rows_of(config)
    if rows is None:
        return None
    tables = (
        tensor.shape[0] for tensor in tensors if tensor.name.endswith(_TABLE) and tensor.shape
    )
    return max((count for count in tables if rows < count <= rows + _MOST_SPARE), default=rows)


def check_vocabulary(
    vocab: Mapping[str, int],
    added: Collection[AddedToken],
    rows: int | None,
    roles: Collection[str],
) -> Iterator[Finding]:
    """Check that no two tokens have one id, nor one token two, and that each id is a row of the embedding.

    A special token beyond it, such as one for padding that was added later, is a remark unless it has
    one of the ``roles``: no text makes it, and the model runs.
    """
    tokens = dict(vocab) | {token.content: token.id for token in added}
    twice = sum(tokens[token.content] != token.id for token in added)
    twice += sum(vocab.get(token.content, token.id) != token.id for token in added)
    shared = len(tokens) - len(set(tokens.values()))
    if shared or twice:
        count = plural(shared + twice, "token")
        yield _wrong_id(f"In {TOKENIZER} {count} share an id, or have two.")
    if rows is not None:
        spare = {token.content for token in added if token.special} - set(roles)
        yield from _beyond(tokens, spare, rows)


def _wrong_id(message: str) -> Finding:
    return Finding("model-special-token", message, path=TOKENIZER, hint=_ROWS_HINT)


def _beyond(tokens: Mapping[str, int], spare: Collection[str], rows: int) -> Iterator[Finding]:
    beyond = {token: number for token, number in tokens.items() if number >= rows}
    needed = {token: number for token, number in beyond.items() if token not in spare}
    shown = needed or beyond
    if not shown:
        return
    highest = max(shown, key=lambda token: shown[token])
    token = f"The token “{printable(highest, 60)}” has id {shown[highest]:,}"
    message = f"{token}, but the embedding has {rows:,} rows (vocab_size)"
    if needed:
        yield _wrong_id(f"{message}.")
    else:
        message += "; no text makes it, and it was not tried."
        yield Finding("model-not-tried", message, path=TOKENIZER)


# ---- roles


TOKENIZER_CONFIG: Final = "tokenizer_config.json"
_MAP: Final = "special_tokens_map.json"
_GENERATION: Final = "generation_config.json"
_STATIC: Final = re.compile(
    r"((?<!LMHead)(?<!MT)(?<!DoubleHeads)Model|WithProjection|For(\w*Classification|MaskedLM|CTC"
    r"|PreTraining|QuestionAnswering))\Z"
)
"""Classes that do not generate."""
_HINT: Final = "Compare this file, config.json and the tokenizer's files with upstream's."


def _wrong(path: str, message: str) -> Finding:
    return Finding("model-special-token", message, path=path, hint=_HINT)


def roles_of(checkpoint: Checkpoint) -> set[str]:
    """Return the tokens that the tokenizer's configuration names for something other than padding.

    Raises:
        DamageError: A file cannot be read as it should be.
    """
    files = (json_of(checkpoint, path, dict[str, Any]) for path in (TOKENIZER_CONFIG, _MAP))
    named = (pair for settings in files if isinstance(settings, dict) for pair in _named(settings))
    return {token for key, token in named if key != "pad_token"}


def check_ids(
    checkpoint: Checkpoint, config: ModelConfig, ids: set[int], rows: int | None
) -> Iterator[Finding]:
    """Check that the ids which config.json and generation_config.json give special tokens are a token's.

    Of a class that does not generate only padding counts: the others are what its family begins with
    (SigLIP's are beyond its vocabulary).

    Raises:
        DamageError: A file cannot be read as it should be.
    """
    parts = [("config.json", config.raw)]
    parts += [("config.json: text_config", config.text)] if config.text is not config.raw else []
    generation = json_of(checkpoint, _GENERATION, dict[str, Any])
    if isinstance(generation, Finding):
        yield generation
    elif generation is not None:
        parts.append((_GENERATION, generation))
    static = _STATIC.search(config.architecture) is not None
    for where, part in parts:
        for key, value in part.items():
            if key.endswith(("_token_id", "_token_index")) and (
                key == "pad_token_id" or not static
            ):
                yield from _check_id(where, key, value, ids, rows)


def _check_id(
    where: str, key: str, value: Any, ids: set[int], rows: int | None
) -> Iterator[Finding]:
    path = where.partition(":")[0]
    for number in value if isinstance(value, list) else [value]:
        if number is None or number == -1:  # older files write -1 for none
            continue
        named = f"{where} says {printable(key, 60)} = {printable(str(number), 30)}"
        if not isinstance(number, int) or isinstance(number, bool):
            yield _wrong(path, f"{named}, which is no id.")
        elif rows is not None and not 0 <= number < rows:
            yield _wrong(path, f"{named}, but the embedding has {rows:,} rows (vocab_size).")
        elif number not in ids:
            yield _wrong(path, f"{named}, but no token has that id.")


def check_names(checkpoint: Checkpoint, vocab: Mapping[str, int]) -> Iterator[Finding]:
    """Check that the tokens which the tokenizer's configuration names exist, with the ids that it gives.

    Raises:
        DamageError: A file cannot be read as it should be.
    """
    for path in (TOKENIZER_CONFIG, _MAP):
        settings = json_of(checkpoint, path, dict[str, Any])
        if isinstance(settings, Finding):
            yield settings
            continue
        for key, token in _named(settings or {}):
            if token not in vocab:
                said = f"{path} says {printable(key, 60)} = “{printable(token, 60)}”"
                yield _wrong(path, f"{said}, which is no token.")
        yield from _check_added(path, settings or {}, vocab)


def _named(settings: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield every token that has a role, with the role."""
    for key, value in settings.items():
        if key in {"additional_special_tokens", "extra_special_tokens"}:
            inner = value.values() if isinstance(value, dict) else value
            values = list(inner) if isinstance(inner, list) or isinstance(value, dict) else []
        else:
            values = [value] if key.endswith("_token") else []
        for value_of_role in values:
            token = (
                value_of_role.get("content") if isinstance(value_of_role, dict) else value_of_role
            )
            if isinstance(token, str):
                yield key, token


def _check_added(
    path: str, settings: dict[str, Any], vocab: Mapping[str, int]
) -> Iterator[Finding]:
    declared = settings.get("added_tokens_decoder")
    for number, token in declared.items() if isinstance(declared, dict) else ():
        content = token.get("content") if isinstance(token, dict) else token
        actual = vocab.get(content) if isinstance(content, str) else None
        if str(actual) != number:
            has = "there is no such token" if actual is None else f"its id is {actual}"
            said = f"{path} gives “{printable(str(content), 60)}” the id {printable(number, 20)}"
            yield _wrong(path, f"{said}; in the vocabulary {has}.")
