"""``tokenizer.json`` as this tool reads it, to compare with what the libraries make of it.

The format is that of the tokenizers library (its ``Tokenizer.save``). Only what is compared is kept.
"""

from __future__ import annotations

import base64
from itertools import islice, zip_longest
from typing import TYPE_CHECKING, Any, Final

import msgspec

from archiver.archive.findings import Finding
from archiver.text import human_bytes, plural, printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from archiver.smoke.checkpoint.files import Checkpoint


TOKENIZER: Final = "tokenizer.json"
MOST_BYTES: Final = 64 * 1024 * 1024
"""Of any of a tokenizer's files; the largest published ones have 35 MB."""
_HIGHEST_ID: Final = 2**24
"""The largest vocabularies have 300,000 tokens; the libraries count up to the highest id."""
_MOST_GROWTH: Final = 10**6
"""How much longer replacements may make a text; they double it forty times over in a few lines."""
_MOST_STEPS: Final = 2000
"""What is done to each text, and put around it: real files list some dozens of steps and tokens."""
HINT: Final = "Compare the file with upstream's; a wrong one gives the model other tokens."


class AddedToken(msgspec.Struct, frozen=True):
    """A token that is looked for before the text is split; a special one is no text."""

    id: int
    content: str
    special: bool = False


class _Model(msgspec.Struct):
    vocab: dict[str, int] | list[tuple[str, float]]
    type: str = ""
    merges: list[str | list[str]] = []
    continuing_subword_prefix: str | None = None
    end_of_word_suffix: str | None = None


class TokenizerFile(msgspec.Struct):
    """What ``tokenizer.json`` says."""

    model: _Model
    added_tokens: list[AddedToken] = []
    normalizer: dict[str, Any] | None = None
    pre_tokenizer: dict[str, Any] | None = None
    post_processor: dict[str, Any] | None = None
    decoder: dict[str, Any] | None = None

    @property
    def vocab(self) -> dict[str, int]:
        """The ids of the ordinary tokens; a Unigram model counts its list."""
        vocab = self.model.vocab
        if isinstance(vocab, dict):
            return vocab
        return {token: number for number, (token, _) in enumerate(vocab)}

    @property
    def added(self) -> dict[str, int]:
        """The ids of the added tokens."""
        return {token.content: token.id for token in self.added_tokens}

    @property
    def merges(self) -> list[str]:
        """BPE's merges, as ``merges.txt`` writes them: two parts with a space between."""
        return [merge if isinstance(merge, str) else " ".join(merge) for merge in self.model.merges]

    @property
    def bytewise(self) -> bool:
        """Whether its tokens are made of bytes, as GPT-2's are, and none of them stands for a space."""
        split = _steps(self.pre_tokenizer, "pretokenizers")
        return "ByteLevel" in [step.get("type") for step in split]

    @property
    def loses_nothing(self) -> bool:
        """Whether decoding must give back the text itself: byte-level BPE, at most NFC before it."""
        before = [step.get("type") for step in _steps(self.normalizer, "normalizers")]
        split = _steps(self.pre_tokenizer, "pretokenizers")
        joined = [step.get("type") for step in _steps(self.decoder, "decoders")]
        prefixed = any(step.get("add_prefix_space") for step in split)
        affixes = self.model.continuing_subword_prefix or self.model.end_of_word_suffix
        bytewise = self.bytewise and joined == ["ByteLevel"]
        return bytewise and set(before) <= {"NFC"} and not prefixed and not affixes

    @property
    def composes(self) -> bool:
        """Whether it turns text into NFC first."""
        return "NFC" in [step.get("type") for step in _steps(self.normalizer, "normalizers")]


def _steps(part: dict[str, Any] | None, name: str) -> list[dict[str, Any]]:
    """Return the steps of a normalizer, pre-tokenizer or decoder; a sequence's own, else the one."""
    if part is None:
        return []
    inner = part.get(name)
    steps = inner if part.get("type") == "Sequence" and isinstance(inner, list) else [part]
    return [step for step in steps if isinstance(step, dict)]


def refused(path: str, message: str) -> Finding:
    """Return a finding about one of the tokenizer's files."""
    return Finding("model-tokenizer", message, path=path, hint=HINT)


def content_of(checkpoint: Checkpoint, path: str) -> bytes | Finding | None:
    """Return a whole file, what is wrong with it, or None if there is none."""
    try:
        return checkpoint.read(path, MOST_BYTES)
    except FileNotFoundError:
        return None
    except ValueError:
        return refused(path, f"{path} is larger than {human_bytes(MOST_BYTES)}; it was not read.")


def decoded(content: bytes, path: str, kind: Any) -> Any:
    """Return JSON as ``kind``, or a finding that says why it is none."""
    try:
        return msgspec.json.decode(content, type=kind)
    except (ValueError, RecursionError) as error:
        return refused(path, f"{path} cannot be understood: {printable(str(error))}.")


def json_of(checkpoint: Checkpoint, path: str, kind: Any) -> Any:
    """Return a JSON file as ``kind``, a finding, or None if there is none."""
    content = content_of(checkpoint, path)
    return decoded(content, path, kind) if isinstance(content, bytes) else content


def read_tokenizer_file(checkpoint: Checkpoint) -> TokenizerFile | Finding | None:
    """Return ``tokenizer.json``, what is wrong with it, or None if there is none.

    Raises:
        DamageError: It cannot be read as it should be.
    """
    file: TokenizerFile | Finding | None = json_of(checkpoint, TOKENIZER, TokenizerFile)
    if not isinstance(file, TokenizerFile):
        return file
    fault = _fault(file)
    return refused(TOKENIZER, f"tokenizer.json {fault}.") if fault else file


def _fault(file: TokenizerFile) -> str:
    """Return why the libraries had better not see it; ``""`` if they may."""
    parts = (file.normalizer, file.pre_tokenizer, file.post_processor, file.decoder)
    steps = list(islice(_values(*parts), _MOST_STEPS + 1))
    if len(steps) > _MOST_STEPS:
        return f"does more than {_MOST_STEPS:,} things to a text; it was not tried"
    if _growth(steps) > _MOST_GROWTH:
        return "replaces text by far longer text; it was not tried"
    if not all(map(_is_sound, steps)):
        return "has a map of characters that says it is larger than it is; it was not tried"
    ids = (*file.vocab.values(), *file.added.values())
    if ids and min(ids) >= 0 and max(ids) < _HIGHEST_ID:
        return ""
    return "has no tokens, or ids that no vocabulary is large enough for"


def _values(*parts: Any) -> Iterator[Any]:
    """Yield every value in them."""
    waiting = list(parts)
    while waiting:
        part = waiting.pop()
        yield part
        waiting += part.values() if isinstance(part, dict) else []
        waiting += part if isinstance(part, list) else []


def _growth(steps: list[Any]) -> int:
    """Return the product of the lengths of all that replaces something, at most a bit too much."""
    growth = 1
    for step in steps:
        content = step.get("content") if isinstance(step, dict) else None
        if isinstance(content, str) and step.get("type") in {"Replace", "Prepend"}:
            growth *= max(1, len(content))
        if growth > _MOST_GROWTH:
            break
    return growth


def _is_sound(step: Any) -> bool:
    """Return whether a precompiled map has the bytes that it says; the library makes room for them first.

    It begins with their number, 32 bits little-endian (tokenizers' ``spm_precompiled``).
    """
    text = step.get("precompiled_charsmap") if isinstance(step, dict) else None
    if not isinstance(text, str):
        return True
    try:
        data = base64.b64decode(text)
    except ValueError:
        return False
    return int.from_bytes(data[:4], "little") <= len(data)


# ---- the files beside it


VOCAB: Final = "vocab.json"
MERGES: Final = "merges.txt"
WORDS: Final = "vocab.txt"
ADDED: Final = "added_tokens.json"
_SHOWN: Final = 3


def check_files(checkpoint: Checkpoint, file: TokenizerFile) -> tuple[list[str], list[Finding]]:
    """Return which files beside ``tokenizer.json`` were compared with it, and where they differ.

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
    """Return whether the file is for such a model: BPE has ``merges.txt``, WordPiece ``vocab.txt``."""
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
    """Yield findings of tokens that a vocabulary gives another id than ``tokenizer.json``, or only one has.

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
    number, (first, second) = next((number, pair) for number, pair in pairs if pair[0] != pair[1])
    yield refused(
        MERGES,
        f"{MERGES} and {TOKENIZER} differ from merge {number:,} on: “{printable(first, 80)}” and"
        f" “{printable(second, 80)}”.",
    )


def _lines(checkpoint: Checkpoint, path: str) -> list[str] | Finding:
    """Return a text file's lines; only line feeds end them, for a token may hold any other separator."""
    content = content_of(checkpoint, path)
    if not isinstance(content, bytes):
        return content or []
    try:
        lines = content.decode().split("\n")
    except UnicodeDecodeError:
        return refused(path, f"{path} is not UTF-8.")
    stripped = [line.removesuffix("\r") for line in lines]
    return stripped[:-1] if stripped[-1] == "" else stripped
