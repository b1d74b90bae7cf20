"""Whether ``vocab.json``, ``merges.txt`` and ``vocab.txt`` say what ``tokenizer.json`` says."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING, Final

from archiver.archive.findings import Finding
from archiver.smoke.tokens.tokenizer_file import TOKENIZER, content_of, json_of, refused
from archiver.text import plural, printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from archiver.smoke.checkpoint.protocol import Checkpoint
    from archiver.smoke.tokens.tokenizer_file import TokenizerFile

VOCAB: Final = "vocab.json"
MERGES: Final = "merges.txt"
WORDS: Final = "vocab.txt"
ADDED: Final = "added_tokens.json"
_SHOWN: Final = 3


def check_files(checkpoint: Checkpoint, file: TokenizerFile) -> tuple[list[str], list[Finding]]:
    """Which files beside ``tokenizer.json`` were compared with it, and where they differ.

    Raises:
        DamageError: A file cannot be read as it should be.
    """
    compared: list[str] = []
    findings: list[Finding] = []
    for path, check in ((VOCAB, _vocab), (MERGES, _merges), (WORDS, _words), (ADDED, _added)):
        if path in checkpoint.files and _is_for(path, file):
            compared.append(path)
            findings += check(checkpoint, file)
    return compared, findings


def _is_for(path: str, file: TokenizerFile) -> bool:
    """``vocab.json`` and ``merges.txt`` belong to BPE, ``vocab.txt`` to WordPiece; other uses differ."""
    kinds = {VOCAB: {"BPE", "WordLevel"}, MERGES: {"BPE"}, WORDS: {"WordPiece"}}
    return path == ADDED or file.model.type in kinds[path]


def _vocab(checkpoint: Checkpoint, file: TokenizerFile) -> Iterator[Finding]:
    beside = json_of(checkpoint, VOCAB, dict[str, int])
    if isinstance(beside, Finding):
        yield beside
    elif beside is not None:
        yield from differences(VOCAB, beside, file)


def _words(checkpoint: Checkpoint, file: TokenizerFile) -> Iterator[Finding]:
    lines = _lines(checkpoint, WORDS)
    if isinstance(lines, Finding):
        yield lines
    else:
        beside = {token: number for number, token in enumerate(lines)}
        yield from differences(WORDS, beside, file)


def _added(checkpoint: Checkpoint, file: TokenizerFile) -> Iterator[Finding]:
    beside = json_of(checkpoint, ADDED, dict[str, int])
    if isinstance(beside, Finding):
        yield beside
        return
    known = file.vocab | file.added
    wrong = [token for token, number in (beside or {}).items() if known.get(token) != number]
    if wrong:
        yield refused(
            ADDED, f"{ADDED} and {TOKENIZER} do not give the same ids to {_named(wrong)}."
        )


def differences(path: str, beside: Mapping[str, int], file: TokenizerFile) -> Iterator[Finding]:
    """What a vocabulary gives another id than ``tokenizer.json``, or only one of them has.

    Added tokens may stand in either, or in both, as long as their ids agree.
    """
    vocab, added = file.vocab, file.added
    differing = (beside.items() ^ vocab.items()) - added.items()
    if differing:
        tokens = list(dict.fromkeys(token for token, _ in sorted(differing, key=_by_id)))
        yield refused(
            path,
            f"{path} and {TOKENIZER} differ in {plural(len(tokens), 'token')}: {_named(tokens)}.",
        )


def _by_id(item: tuple[str, int]) -> tuple[int, str]:
    return item[1], item[0]


def _named(tokens: list[str]) -> str:
    shown = ", ".join(f"“{printable(token, 40)}”" for token in tokens[:_SHOWN])
    return shown + (" …" if len(tokens) > _SHOWN else "")


def _merges(checkpoint: Checkpoint, file: TokenizerFile) -> Iterator[Finding]:
    lines = _lines(checkpoint, MERGES)
    if isinstance(lines, Finding):
        yield lines
        return
    beside = [line for line in lines if line and not line.startswith("#version")]
    if beside == (merges := file.merges):
        return
    pairs = enumerate(zip_longest(beside, merges, fillvalue=""), start=1)
    number, (one, two) = next((number, pair) for number, pair in pairs if pair[0] != pair[1])
    yield refused(
        MERGES,
        f"{MERGES} and {TOKENIZER} differ from merge {number:,} on: “{printable(one, 80)}” and"
        f" “{printable(two, 80)}”.",
    )


def _lines(checkpoint: Checkpoint, path: str) -> list[str] | Finding:
    """A text file's lines; only line feeds end them, for a token may hold any other separator."""
    content = content_of(checkpoint, path)
    if not isinstance(content, bytes):
        return content or []
    try:
        lines = content.decode().split("\n")
    except UnicodeDecodeError:
        return refused(path, f"{path} is not UTF-8.")
    stripped = [line.removesuffix("\r") for line in lines]
    return stripped[:-1] if stripped[-1] == "" else stripped
