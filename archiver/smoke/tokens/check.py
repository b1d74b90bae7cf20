"""Level ``tokenizer``: the tokenizer's files agree, and turn text into ids and back."""

from __future__ import annotations

from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Final

from archiver.archive.findings import Finding
from archiver.errors import SkippedError
from archiver.smoke import libraries
from archiver.smoke.report import FailedError, InapplicableError, Proof
from archiver.smoke.tokens.agreement import check_ids as check_texts
from archiver.smoke.tokens.agreement import check_round_trip, check_vocabularies, collecting, ids_of
from archiver.smoke.tokens.chat_template import check_chat_template, processor_template
from archiver.smoke.tokens.load import SENTENCE_PIECE, load_tokenizer
from archiver.smoke.tokens.rows import check_vocabulary, stored_rows
from archiver.smoke.tokens.special_tokens import TOKENIZER_CONFIG, check_ids, check_names, roles_of
from archiver.smoke.tokens.texts import TEXTS
from archiver.smoke.tokens.tokenizer_file import (
    TOKENIZER,
    AddedToken,
    TokenizerFile,
    read_tokenizer_file,
    refused,
)
from archiver.smoke.tokens.vocabulary import MERGES, VOCAB, WORDS, check_files
from archiver.text import plural

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from archiver.smoke.config import ModelConfig
    from archiver.smoke.trial import Trial

_NAMES: Final = frozenset(
    {TOKENIZER, TOKENIZER_CONFIG, VOCAB, WORDS, MERGES, "bpe.codes", "tekken.json"}
)
_MOST: Final = 20
"""Findings of one kind; a file that is wrong throughout is not told line by line."""


class _Check:
    """What one run of the level has found so far."""

    def __init__(self, trial: Trial, file: TokenizerFile | None) -> None:
        self.trial, self.file = trial, file
        self.config = _config(trial)
        self.proved: list[str] = []
        self.findings: list[Finding] = []

    @property
    def rows(self) -> int | None:
        """Of the embedding; None if nothing says how many there are."""
        return stored_rows(self.config, self.trial.tensors.values()) if self.config else None

    def hold(self, found: Iterable[Finding], proved: str) -> None:
        """Note the findings of a check; without any, what it proves."""
        findings = list(islice(found, _MOST))
        self.findings += findings
        self.proved += [] if findings or not proved else [proved]


def _config(trial: Trial) -> ModelConfig | None:
    """What ``config.json`` says; None without a usable one, of which level ``structure`` tells."""
    with suppress(SkippedError, FailedError):
        return trial.config
    return None


def check_tokenizer(trial: Trial) -> Proof:
    """Compare the tokenizer's files with each other, with the configuration, and with the libraries.

    Sets ``trial.tokenizer``, unless the libraries cannot load it.

    Raises:
        SkippedError: The libraries are not installed, or the repository's own code is asked for.
        InapplicableError: There are no files of a tokenizer.
        FailedError: ``tokenizer.json``, or another small file, cannot be used at all.
        DamageError: The archive, not the model, is damaged.
    """
    if not any(map(_is_of_tokenizer, trial.checkpoint.files)):
        raise InapplicableError("It has no tokenizer: none of its usual files is there.")
    libraries.require("tokenizers", "transformers", "jinja2")
    folder = trial.folder  # refuses what asks for code, and JSON that no library should see
    file = read_tokenizer_file(trial.checkpoint)
    if isinstance(file, Finding):
        raise FailedError(file)
    check = _Check(trial, file)
    _check_with_libraries(check, folder)
    vocab = _check_files(check)
    _check_template(check)
    facts = {"tokenizer": type(trial.tokenizer).__name__, "vocabulary": len(vocab)}
    return Proof(tuple(check.proved), tuple(check.findings), facts)


def _is_of_tokenizer(path: str) -> bool:
    return path in _NAMES or ("/" not in path and path.endswith(SENTENCE_PIECE))


def fixed_ids(trial: Trial) -> tuple[tuple[int, ...], ...]:
    """The ids of each fixed text, with what the tokenizer puts around it; none without a tokenizer."""
    if trial.tokenizer is None:
        return ()
    return tuple(tuple(trial.tokenizer(text)["input_ids"]) for text in TEXTS)


def _check_with_libraries(check: _Check, folder: Path) -> None:
    try:
        with collecting(check.findings, TOKENIZER, "Loading the tokenizer with transformers"):
            check.trial.tokenizer = load_tokenizer(check.trial)
    except FailedError as error:  # of config.json; the rest can be looked at all the same
        check.findings += error.findings
    if check.file is None:
        _refuse_empty(check)
    else:
        with collecting(check.findings, TOKENIZER, f"Loading {TOKENIZER}"):
            _check_texts(check, check.file, folder)


def _check_template(check: _Check) -> None:
    """Last, for it may have to be ended, and this process with it."""
    if check.trial.tokenizer is None:
        return
    with collecting(check.findings, TOKENIZER, "Rendering the chat template"):
        apart = processor_template(check.trial.checkpoint)
        so_far = Proof(tuple(check.proved), tuple(check.findings))
        with check.trial.guarded("chat-template", so_far):
            proved, findings = check_chat_template(check.trial.tokenizer, apart)
        check.hold(findings, "; ".join(proved))


def _refuse_empty(check: _Check) -> None:
    """Without ``tokenizer.json`` some classes begin with no vocabulary, and do not say so."""
    tokenizer = check.trial.tokenizer
    if tokenizer is None or ids_of(tokenizer, TEXTS[0]):
        return
    check.trial.tokenizer = None
    name = type(tokenizer).__name__
    told = f"There is no {TOKENIZER}, and transformers ({name}) reads no vocabulary from what is there."
    check.findings.append(refused(TOKENIZER, told))


def _check_texts(check: _Check, file: TokenizerFile, folder: Path) -> None:
    from tokenizers import Tokenizer  # noqa: PLC0415 - of the extra

    backend = Tokenizer.from_file(str(folder / TOKENIZER))
    backend.no_padding()
    backend.no_truncation()
    tokenizer = check.trial.tokenizer
    if tokenizer is None:
        return
    texts = plural(len(TEXTS), "fixed text")
    said = f"transformers and tokenizer.json give the same ids for {texts}"
    same = check_texts(tokenizer, backend, exact=file.bytewise)
    check.hold((*check_vocabularies(tokenizer, file), *same), said)
    if file.loses_nothing:
        after = ", in Unicode's composed form" if file.composes else ""
        back = check_round_trip(tokenizer, composes=file.composes)
        check.hold(back, f"{texts} come back from their ids{after}")


def _check_files(check: _Check) -> dict[str, int]:
    """The checks that need no library; the whole vocabulary."""
    checkpoint, config, rows = check.trial.checkpoint, check.config, check.rows
    if check.file is not None:
        compared, differing = check_files(checkpoint, check.file)
        said = f"{', '.join(compared)} and tokenizer.json say the same" if compared else ""
        check.hold(differing, said)
    own, added = _vocabulary(check)
    check.hold(check_vocabulary(own, added, rows, roles_of(checkpoint)), "")
    vocab = own | {token.content: token.id for token in added}
    if vocab:
        ids = check_ids(checkpoint, config, set(vocab.values()), rows) if config else ()
        named = check_names(checkpoint, vocab)
        check.hold((*ids, *named), "every special token exists, with its id")
    return vocab


def _vocabulary(check: _Check) -> tuple[dict[str, int], list[AddedToken]]:
    """The ordinary tokens with their ids, and the added ones."""
    if check.file is not None:
        return check.file.vocab, check.file.added_tokens
    tokenizer = check.trial.tokenizer
    if tokenizer is None:
        return {}, []
    added = tokenizer.added_tokens_decoder.items()
    return tokenizer.get_vocab(), [
        AddedToken(number, token.content, token.special) for number, token in added
    ]
