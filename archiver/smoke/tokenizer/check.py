"""Level ``tokenizer``: the tokenizer's files agree, and turn text into ids and back."""

from __future__ import annotations

import unicodedata
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from itertools import islice, zip_longest
from typing import TYPE_CHECKING, Any, Final

from archiver.archive.findings import Finding
from archiver.errors import ArchiverError, SkippedError
from archiver.smoke import libraries
from archiver.smoke.checkpoint.config import CONFIG
from archiver.smoke.loading.architecture import transformers_config
from archiver.smoke.report import FailedError, InapplicableError, Proof, reason
from archiver.smoke.tokenizer.chat_template import check_chat_template, processor_template
from archiver.smoke.tokenizer.special_tokens import (
    TOKENIZER_CONFIG,
    check_ids,
    check_names,
    check_vocabulary,
    roles_of,
    stored_rows,
)
from archiver.smoke.tokenizer.texts import TEXTS
from archiver.smoke.tokenizer.tokenizer_file import (
    MERGES,
    TOKENIZER,
    VOCAB,
    WORDS,
    AddedToken,
    TokenizerFile,
    check_files,
    read_tokenizer_file,
    refused,
)
from archiver.text import plural, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from archiver.smoke.checkpoint.config import ModelConfig
    from archiver.smoke.session import Session


# ---- the tokenizer as transformers loads it


SENTENCE_PIECE: Final = (".model", ".spm")
"""What files of SentencePiece end in; some are lists of tiktoken."""
_READERS: Final = ("sentencepiece", "google.protobuf")
_ADVICE: Final = "pip install"


def load_tokenizer(session: Session) -> Any:
    """Return the tokenizer of the model, by the class that transformers takes.

    Raises:
        SkippedError: It needs a library that is not there.
        FailedError: ``config.json`` is refused, here or by transformers.
        Exception: Whatever transformers raises on account of the tokenizer's files.
    """
    from transformers import AutoTokenizer  # noqa: PLC0415 - of the extra

    if CONFIG in session.checkpoint.files:
        with suppress(SkippedError):  # it is of no single model; what it counts was looked at
            _ = (
                session.config
            )  # the tokenizer's loader reads the file as well, and believes its counts
    try:
        return AutoTokenizer.from_pretrained(
            str(session.folder), trust_remote_code=False, local_files_only=True
        )
    except ImportError as error:
        raise _needs(str(error).strip().partition("\n")[0].partition(". ")[0]) from error
    except Exception as error:
        _require_readers(session, error)
        with suppress(SkippedError):  # it has a reading of its own of a family that is not known
            transformers_config(session)  # the tokenizer's loader reads config.json as well
        raise


def _needs(what: str) -> SkippedError:
    libraries_named = printable(what.rstrip("."), 200) or "one is missing"
    return SkippedError(f"The tokenizer needs more libraries: {libraries_named}.")


def _require_readers(session: Session, error: Exception) -> None:
    """Without what reads it, transformers takes one format of a vocabulary for the other."""
    files = [path for path in session.checkpoint.files if path.endswith(SENTENCE_PIECE)]
    missing = [name for name in _READERS if not _is_there(name)]
    if files and TOKENIZER not in session.checkpoint.files and (missing or _ADVICE in str(error)):
        names = " and ".join(name.rpartition(".")[2] for name in missing)
        message = f"{names} to read {files[0]}" if missing else reason(error)
        raise _needs(message) from error


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of the package that it is in
        return False


# ---- whether it does what ``tokenizer.json`` says


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


def check_texts(tokenizer: Any, backend: Any, *, exact: bool = True) -> Iterator[Finding]:
    """Check that transformers' class splits the fixed texts as the tokenizers library does.

    It may take the rules from its own code, by the model's type, instead of from the file. Made for
    SentencePiece, they treat the edges otherwise than the file that was converted from the same model:
    Llama's leave out the space before a text that begins with one. So unless ``exact``, a difference
    in less than half of the texts is only a remark.
    """
    pairs = [
        (text, ids_of(tokenizer, text), backend.encode(text, add_special_tokens=False).ids)
        for text in TEXTS
    ]
    wrong = [pair for pair in pairs if pair[1] != pair[2]]
    if not wrong:
        return
    text, theirs, own = wrong[0]
    shown, difference = printable(text, 40), _difference(theirs, own)
    message = f"{len(wrong)} of {len(TEXTS)} fixed texts: in “{shown}” {difference}."
    name = type(tokenizer).__name__
    if exact or 2 * len(wrong) > len(TEXTS):
        yield refused(TOKENIZER, f"transformers ({name}) and {TOKENIZER} differ on {message}")
    else:
        own_rules = (
            f"transformers ({name}) has rules of its own, which are not those of {TOKENIZER} on"
        )
        yield Finding("model-not-tried", f"{own_rules} {message}", path=TOKENIZER)


def ids_of(tokenizer: Any, text: str) -> list[int]:
    """Return the ids that transformers gives a text, without what is put around it."""
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def _difference(theirs: Sequence[int], own: Sequence[int]) -> str:
    pairs = enumerate(zip_longest(theirs, own), start=1)
    number, (first, second) = next((number, pair) for number, pair in pairs if pair[0] != pair[1])
    says = ["nothing" if token is None else f"id {token}" for token in (first, second)]
    return f"token {number} is {says[0]} to transformers and {says[1]} in the file"


def check_vocabularies(tokenizer: Any, file: TokenizerFile) -> Iterator[Finding]:
    """Check that every token of the file has the same id in transformers' tokenizer."""
    missing = (file.vocab | file.added).items() - tokenizer.get_vocab().items()
    if missing:
        token, number = min(missing, key=lambda item: item[1])
        yield refused(
            TOKENIZER,
            f"{len(missing):,} tokens of {TOKENIZER} have another id in transformers, or are not"
            f" there; the first is “{printable(token, 60)}”, id {number}.",
        )


def check_round_trip(tokenizer: Any, *, composes: bool) -> Iterator[Finding]:
    """Check that the ids of a fixed text give it back, composed (NFC) if the tokenizer does that."""
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


# ---- the level


_NAMES: Final = frozenset(
    {TOKENIZER, TOKENIZER_CONFIG, VOCAB, WORDS, MERGES, "bpe.codes", "tekken.json"}
)
_MOST: Final = 20
"""Findings of one kind; a file that is wrong throughout is not told line by line."""


class _Check:
    """What one run of the level has found so far."""

    def __init__(self, session: Session, file: TokenizerFile | None) -> None:
        self.session, self.file = session, file
        self.config = _config(session)
        self.proved: list[str] = []
        self.findings: list[Finding] = []

    @property
    def rows(self) -> int | None:
        """Of the embedding; None if nothing says how many there are."""
        return stored_rows(self.config, self.session.tensors.values()) if self.config else None

    def hold(self, results: Iterable[Finding], proved: str) -> None:
        """Note the findings of a check; without any, what it proves."""
        findings = list(islice(results, _MOST))
        self.findings += findings
        self.proved += [] if findings or not proved else [proved]


def _config(session: Session) -> ModelConfig | None:
    """Return what ``config.json`` says; None without a usable one, of which level ``structure`` tells."""
    with suppress(SkippedError, FailedError):
        return session.config
    return None


def check_tokenizer(session: Session) -> Proof:
    """Compare the tokenizer's files with each other, with the configuration, and with the libraries.

    Sets ``session.tokenizer``, unless the libraries cannot load it.

    Raises:
        SkippedError: The libraries are not installed, or the repository's own code is asked for.
        InapplicableError: There are no files of a tokenizer.
        FailedError: ``tokenizer.json``, or another small file, cannot be used at all.
        DamageError: The archive, not the model, is damaged.
    """
    if not any(map(_is_of_tokenizer, session.checkpoint.files)):
        raise InapplicableError("It has no tokenizer: none of its usual files is there.")
    libraries.require("tokenizers", "transformers", "jinja2")
    folder = session.folder  # refuses what asks for code, and JSON that no library should see
    file = read_tokenizer_file(session.checkpoint)
    if isinstance(file, Finding):
        raise FailedError(file)
    check = _Check(session, file)
    _check_with_libraries(check, folder)
    vocab = _check_files(check)
    _check_template(check)
    facts = {"tokenizer": type(session.tokenizer).__name__, "vocabulary": len(vocab)}
    return Proof(tuple(check.proved), tuple(check.findings), facts)


def _is_of_tokenizer(path: str) -> bool:
    return path in _NAMES or ("/" not in path and path.endswith(SENTENCE_PIECE))


def fixed_ids(session: Session) -> tuple[tuple[int, ...], ...]:
    """Return the ids of each fixed text, with what is put around it; empty without a tokenizer."""
    if session.tokenizer is None:
        return ()
    return tuple(tuple(session.tokenizer(text)["input_ids"]) for text in TEXTS)


def _check_with_libraries(check: _Check, folder: Path) -> None:
    try:
        with collecting(check.findings, TOKENIZER, "Loading the tokenizer with transformers"):
            check.session.tokenizer = load_tokenizer(check.session)
    except FailedError as error:  # of config.json; the rest can be looked at all the same
        check.findings += error.findings
    if check.file is None:
        _refuse_empty(check)
    else:
        with collecting(check.findings, TOKENIZER, f"Loading {TOKENIZER}"):
            _check_texts(check, check.file, folder)


def _check_template(check: _Check) -> None:
    """Last, for it may have to be ended, and this process with it."""
    if check.session.tokenizer is None:
        return
    with collecting(check.findings, TOKENIZER, "Rendering the chat template"):
        apart = processor_template(check.session.checkpoint)
        so_far = Proof(tuple(check.proved), tuple(check.findings))
        with check.session.guarded("chat-template", so_far):
            proved, findings = check_chat_template(check.session.tokenizer, apart)
        check.hold(findings, "; ".join(proved))


def _refuse_empty(check: _Check) -> None:
    """Without ``tokenizer.json`` some classes begin with no vocabulary, and do not say so."""
    tokenizer = check.session.tokenizer
    if tokenizer is None or ids_of(tokenizer, TEXTS[0]):
        return
    check.session.tokenizer = None
    name = type(tokenizer).__name__
    message = f"There is no {TOKENIZER}, and transformers ({name}) reads no vocabulary from what is there."
    check.findings.append(refused(TOKENIZER, message))


def _check_texts(check: _Check, file: TokenizerFile, folder: Path) -> None:
    from tokenizers import Tokenizer  # noqa: PLC0415 - of the extra

    backend = Tokenizer.from_file(str(folder / TOKENIZER))
    backend.no_padding()
    backend.no_truncation()
    tokenizer = check.session.tokenizer
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
    """Run the checks that need no library; return the whole vocabulary."""
    checkpoint, config, rows = check.session.checkpoint, check.config, check.rows
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
    """Return the ordinary tokens with their ids, and the added ones."""
    if check.file is not None:
        return check.file.vocab, check.file.added_tokens
    tokenizer = check.session.tokenizer
    if tokenizer is None:
        return {}, []
    added = tokenizer.added_tokens_decoder.items()
    return tokenizer.get_vocab(), [
        AddedToken(number, token.content, token.special) for number, token in added
    ]
