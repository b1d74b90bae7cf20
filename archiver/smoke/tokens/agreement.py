"""Whether transformers' tokenizer does what ``tokenizer.json`` says, on the fixed texts."""

from __future__ import annotations

import unicodedata
from contextlib import contextmanager
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from archiver.archive.findings import Finding
from archiver.errors import ArchiverError
from archiver.smoke.guard import reason
from archiver.smoke.tokens.texts import TEXTS
from archiver.smoke.tokens.tokenizer_file import TOKENIZER, refused
from archiver.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from archiver.smoke.tokens.tokenizer_file import TokenizerFile


@contextmanager
def collecting(findings: list[Finding], path: str, doing: str) -> Iterator[None]:
    """What the libraries raise becomes a finding, also when their Rust part panics."""
    try:
        yield
    except ArchiverError:
        raise
    except BaseException as error:
        # pyo3's PanicException derives from BaseException, and no module exports it.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        why = reason(error, type(error).__name__)
        findings.append(refused(path, f"{doing} failed: {why}."))


def check_ids(tokenizer: Any, backend: Any, *, exact: bool = True) -> Iterator[Finding]:
    """The own class of transformers must split the fixed texts as the tokenizers library does.

    It may take the rules from its own code, by the model's type, instead of from the file. Made for
    SentencePiece, they treat the edges otherwise than the file that was converted from the same model:
    Llama's leave out the space before a text that begins with one. So unless ``exact``, a difference
    in less than half of the texts is only a remark.
    """
    pairs = [
        (text, ids_of(tokenizer, text), backend.encode(text, add_special_tokens=False).ids)
        for text in TEXTS
    ]
    wrong = [found for found in pairs if found[1] != found[2]]
    if not wrong:
        return
    text, theirs, own = wrong[0]
    shown, difference = printable(text, 40), _difference(theirs, own)
    told = f"{len(wrong)} of {len(TEXTS)} fixed texts: in “{shown}” {difference}."
    name = type(tokenizer).__name__
    if exact or 2 * len(wrong) > len(TEXTS):
        yield refused(TOKENIZER, f"transformers ({name}) and {TOKENIZER} differ on {told}")
    else:
        own_rules = (
            f"transformers ({name}) has rules of its own, which are not those of {TOKENIZER} on"
        )
        yield Finding("model-not-tried", f"{own_rules} {told}", path=TOKENIZER)


def ids_of(tokenizer: Any, text: str) -> list[int]:
    """The ids that transformers gives a text, without what is put around it."""
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def _difference(theirs: Sequence[int], own: Sequence[int]) -> str:
    pairs = enumerate(zip_longest(theirs, own), start=1)
    number, (one, two) = next((number, pair) for number, pair in pairs if pair[0] != pair[1])
    says = ["nothing" if found is None else f"id {found}" for found in (one, two)]
    return f"token {number} is {says[0]} to transformers and {says[1]} in the file"


def check_vocabularies(tokenizer: Any, file: TokenizerFile) -> Iterator[Finding]:
    """Every token of the file must have the same id in transformers' tokenizer."""
    missing = (file.vocab | file.added).items() - tokenizer.get_vocab().items()
    if missing:
        token, number = min(missing, key=lambda item: item[1])
        yield refused(
            TOKENIZER,
            f"{len(missing):,} tokens of {TOKENIZER} have another id in transformers, or are not"
            f" there; the first is “{printable(token, 60)}”, id {number}.",
        )


def check_round_trip(tokenizer: Any, *, composes: bool) -> Iterator[Finding]:
    """Decoding the ids of a fixed text must give it back, composed (NFC) if the tokenizer does that."""
    wrong = []
    for text in TEXTS:
        expected = unicodedata.normalize("NFC", text) if composes else text
        back = tokenizer.decode(
            ids_of(tokenizer, text), skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        wrong += [(expected, back)] if back != expected else []
    if wrong:
        expected, back = wrong[0]
        yield refused(
            TOKENIZER,
            f"{len(wrong)} of {len(TEXTS)} fixed texts do not come back when their tokens are joined:"
            f" “{printable(expected, 60)}” became “{printable(back, 60)}”.",
        )
