"""A small byte-level BPE with Qwen's special tokens, trained on the text of the licence.

The ids run: 256 bytes, then one token a merge, then the special tokens in Qwen's own order.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

from archiver.demo.files import text_of

SPECIAL = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
]
ADDED = [
    "<tool_call>",
    "</tool_call>",
    "<|fim_prefix|>",
    "<|fim_middle|>",
    "<|fim_suffix|>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
    "<tool_response>",
    "</tool_response>",
    "<think>",
    "</think>",
]
"""Added tokens that decoding keeps, unlike the special ones."""

PRETOKENIZE = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_WORD = re.compile(r" ?[A-Za-z]+| ?[^\sA-Za-z0-9]+")
_MERGES = 256
_BYTE_LEVEL = {
    "type": "ByteLevel",
    "add_prefix_space": False,
    "trim_offsets": False,
    "use_regex": False,
}

Pair = tuple[str, str]


@dataclass(frozen=True)
class Tokenizer:
    """What the tokenizer's files say."""

    merges: tuple[Pair, ...]

    @property
    def vocab(self) -> dict[str, int]:
        """Ids of the ordinary tokens."""
        tokens = [*_byte_alphabet().values(), *(left + right for left, right in self.merges)]
        return {token: number for number, token in enumerate(tokens)}

    def id_of(self, added: str) -> int:
        """Return the id of a special or added token."""
        return len(self.vocab) + (SPECIAL + ADDED).index(added)


@cache
def trained_tokenizer() -> Tokenizer:
    """Return the tokenizer; the same one every time."""
    alphabet = _byte_alphabet()
    counts = Counter(_WORD.findall(text_of("LICENSE")))
    words = {
        tuple(alphabet[byte] for byte in word.encode()): count
        for word, count in counts.items()
        if count > 1
    }
    merges: list[Pair] = []
    while len(merges) < _MERGES:
        merges.append(_commonest_pair(words))
        words = {_merge(word, merges[-1]): count for word, count in words.items()}
    return Tokenizer(tuple(merges))


def _byte_alphabet() -> dict[int, str]:
    """Return GPT-2's printable stand-in for each byte, in the order of the stand-ins' ids."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    return {byte: chr(byte) for byte in plain} | {b: chr(256 + n) for n, b in enumerate(others)}


def _commonest_pair(words: dict[tuple[str, ...], int]) -> Pair:
    pairs: Counter[Pair] = Counter()
    for word, count in words.items():
        for pair in pairwise(word):
            pairs[pair] += count
    return min(pairs, key=lambda pair: (-pairs[pair], pair))


def _merge(word: tuple[str, ...], pair: Pair) -> tuple[str, ...]:
    parts: list[str] = []
    for part in word:
        if parts and (parts[-1], part) == pair:
            parts[-1] += part
        else:
            parts.append(part)
    return tuple(parts)


def tokenizer_json(tokenizer: Tokenizer) -> dict[str, Any]:
    """Return the content of ``tokenizer.json``, as the tokenizers library reads it."""
    split = {
        "type": "Split",
        "pattern": {"Regex": PRETOKENIZE},
        "behavior": "Isolated",
        "invert": False,
    }
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": tokenizer.id_of(t), **_added(t)} for t in SPECIAL + ADDED],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, _BYTE_LEVEL]},
        "post_processor": _BYTE_LEVEL,
        "decoder": _BYTE_LEVEL,
        "model": _model(tokenizer),
    }


def _model(tokenizer: Tokenizer) -> dict[str, Any]:
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": "",
        "end_of_word_suffix": "",
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": tokenizer.vocab,
        "merges": [list(pair) for pair in tokenizer.merges],
    }


def _added(token: str) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"content": token, **flags, "special": token in SPECIAL}


def tokenizer_config(tokenizer: Tokenizer) -> dict[str, Any]:
    """Return the content of ``tokenizer_config.json``."""
    return {
        "add_bos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": {str(tokenizer.id_of(t)): _added(t) for t in SPECIAL + ADDED},
        "additional_special_tokens": SPECIAL[1:],
        "bos_token": None,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>",
        "errors": "replace",
        "image_token": "<|image_pad|>",
        "model_max_length": 262144,
        "pad_token": "<|endoftext|>",
        "pretokenize_regex": PRETOKENIZE,
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
        "video_token": "<|video_pad|>",
        "vision_bos_token": "<|vision_start|>",
        "vision_eos_token": "<|vision_end|>",
    }


def merges_txt(tokenizer: Tokenizer) -> str:
    """Return the content of ``merges.txt``."""
    return "#version: 0.2\n" + "".join(f"{left} {right}\n" for left, right in tokenizer.merges)
