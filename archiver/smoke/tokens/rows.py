"""Whether the ids of tokens are rows of the embedding, one each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from archiver.archive.findings import Finding
from archiver.smoke.tokens.tokenizer_file import TOKENIZER
from archiver.text import plural, printable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from archiver.smoke.checkpoint.protocol import StoredTensor
    from archiver.smoke.config import ModelConfig
    from archiver.smoke.tokens.tokenizer_file import AddedToken

_TABLE: Final = "embed_tokens.weight"
_MOST_SPARE: Final = 64
_HINT: Final = "Compare the tokenizer's files and config.json with upstream's."


def rows_of(config: ModelConfig) -> int | None:
    """How many rows the embedding has, so that every id must be below; None if it is not said."""
    rows = config.text.get("vocab_size")
    return rows if isinstance(rows, int) and not isinstance(rows, bool) and rows > 0 else None


def stored_rows(config: ModelConfig, tensors: Iterable[StoredTensor]) -> int | None:
    """The same, with the few rows that some classes have beyond ``vocab_size`` (Mllama: 8)."""
    rows = rows_of(config)
    if rows is None:
        return None
    tables = (one.shape[0] for one in tensors if one.name.endswith(_TABLE) and one.shape)
    return max((count for count in tables if rows < count <= rows + _MOST_SPARE), default=rows)


def check_vocabulary(
    vocab: Mapping[str, int],
    added: Collection[AddedToken],
    rows: int | None,
    roles: Collection[str],
) -> Iterator[Finding]:
    """No two tokens may have one id, nor one token two; each id must be a row of the embedding.

    A special token beyond it, such as one for padding that was added later, is a remark unless it has
    one of the ``roles``: no text makes it, and the model runs.
    """
    tokens = dict(vocab) | {token.content: token.id for token in added}
    twice = sum(tokens[token.content] != token.id for token in added)
    twice += sum(vocab.get(token.content, token.id) != token.id for token in added)
    shared = len(tokens) - len(set(tokens.values()))
    if shared or twice:
        count = plural(shared + twice, "token")
        yield _wrong(f"In {TOKENIZER} {count} share an id, or have two.")
    if rows is not None:
        spare = {token.content for token in added if token.special} - set(roles)
        yield from _beyond(tokens, spare, rows)


def _wrong(message: str) -> Finding:
    return Finding("model-special-token", message, path=TOKENIZER, hint=_HINT)


def _beyond(tokens: Mapping[str, int], spare: Collection[str], rows: int) -> Iterator[Finding]:
    beyond = {token: number for token, number in tokens.items() if number >= rows}
    needed = {token: number for token, number in beyond.items() if token not in spare}
    told = needed or beyond
    if not told:
        return
    highest = max(told, key=lambda token: told[token])
    token = f"The token “{printable(highest, 60)}” has id {told[highest]:,}"
    message = f"{token}, but the embedding has {rows:,} rows (vocab_size)"
    if needed:
        yield _wrong(f"{message}.")
    else:
        message += "; no text makes it, and it was not tried."
        yield Finding("model-not-tried", message, path=TOKENIZER)
