"""Small checkpoints in the true layout of Qwen3.5, made from a seed, without torch.

The same seed gives the same bytes (with the same numpy: it may improve its generators). Tensors are
made and written block by block, so memory stays near 50 MB at any size:

=====  =======  =======
scale  dense    MoE
=====  =======  =======
1      3.4 MB   4.7 MB
4      51 MB    71 MB
8      202 MB   282 MB
22              2.1 GB
25     2.0 GB
=====  =======  =======
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from archiver.demo import config
from archiver.demo.files import text_of
from archiver.demo.shards import write_shards
from archiver.demo.sizes import Sizes
from archiver.demo.tensor_list import tensors_of
from archiver.demo.tokenizer import merges_txt, tokenizer, tokenizer_config, tokenizer_json

if TYPE_CHECKING:
    from pathlib import Path


def write_dense(folder: Path, *, seed: int = 0, scale: int = 1, shards: int = 1) -> Path:
    """Write a dense model with vision tower and tied embeddings, as Qwen3.5-0.8B is.

    Args:
        folder: Where the files go; made if it is missing.
        seed: What the weights are drawn from; nothing else depends on it.
        scale: Every width is multiplied by it, so the bytes grow with its square.
        shards: Into how many files the tensors are dealt, at most.

    Returns:
        The folder.
    """
    return _write(folder, Sizes(scale, moe=False), seed, shards)


def write_moe(folder: Path, *, seed: int = 0, scale: int = 1, shards: int = 3) -> Path:
    """Write a mixture of experts with vision tower and a head of its own, as Qwen3.5-35B-A3B is.

    The arguments are those of `write_dense`.
    """
    return _write(folder, Sizes(scale, moe=True), seed, shards)


def _write(folder: Path, sizes: Sizes, seed: int, shards: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    _write_side_files(folder, sizes)
    write_shards(folder, tensors_of(sizes), count=shards, seed=seed)
    return folder


def _write_side_files(folder: Path, sizes: Sizes) -> None:
    made = tokenizer()
    texts = {
        ".gitattributes": text_of("gitattributes"),
        "LICENSE": text_of("LICENSE"),
        "README.md": text_of("README.md"),
        "chat_template.jinja": text_of("chat_template.jinja"),
        "config.json": _json(config.model_config(sizes, made)),
        "generation_config.json": _json(config.generation_config(made)),
        "merges.txt": merges_txt(made),
        "preprocessor_config.json": _json(config.image_config()),
        "tokenizer.json": _json(tokenizer_json(made)),
        "tokenizer_config.json": _json(tokenizer_config(made)),
        "video_preprocessor_config.json": _json(config.video_config()),
        "vocab.json": json.dumps(made.vocab, ensure_ascii=False),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")


def _json(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
