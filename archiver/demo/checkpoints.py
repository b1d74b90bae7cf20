"""Small checkpoints in the true layout of Qwen3.5, made from a seed, without torch.

The same seed gives the same bytes (with the same numpy: it may improve its generators). Tensors are
made and written block by block, so memory stays near 50 MB at any size; a quantised model also needs
its two largest tensors in memory (134 MB at scale 8):

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
from archiver.demo.kind import Kind
from archiver.demo.layout import stored_tensors
from archiver.demo.shards import write_shards
from archiver.demo.sizes import Sizes
from archiver.demo.tokenizer import merges_txt, tokenizer, tokenizer_config, tokenizer_json

if TYPE_CHECKING:
    from pathlib import Path


def write_dense(
    folder: Path,
    *,
    seed: int = 0,
    scale: int = 1,
    shards: int = 1,
    fp8: bool = False,
    vision: bool = True,
    tied: bool | None = None,
) -> Path:
    """Write a dense model; by default with vision tower and tied embeddings, as Qwen3.5-0.8B is.

    Args:
        folder: Where the files go; made if it is missing.
        seed: What the weights are drawn from; nothing else depends on it.
        scale: Every width is multiplied by it, so the bytes grow with its square.
        shards: Into how many files the tensors are dealt, at most.
        fp8: Quantised from the same weights, as the repositories with FP8 in their names are.
        vision: With a vision tower; without it the model is for text alone.
        tied: The head is the embedding; None: as the real models of this family are.

    Returns:
        The folder.

    Raises:
        UsageError: The scale is below 1, or one that FP8 cannot have.
    """
    kind = Kind(
        Sizes(scale, moe=False),
        vision=vision,
        tied=tied is not False,
        quantisation="fp8" if fp8 else None,
    )
    return _write(folder, kind, seed, shards)


def write_moe(
    folder: Path,
    *,
    seed: int = 0,
    scale: int = 1,
    shards: int = 3,
    fp8: bool = False,
    vision: bool = True,
    tied: bool | None = None,
) -> Path:
    """Write a mixture of experts; by default with a head of its own, as Qwen3.5-35B-A3B is.

    The arguments are those of `write_dense`.
    """
    kind = Kind(
        Sizes(scale, moe=True),
        vision=vision,
        tied=tied is True,
        quantisation="fp8" if fp8 else None,
    )
    return _write(folder, kind, seed, shards)


def write_gptq(
    folder: Path, *, seed: int = 0, scale: int = 1, shards: int = 1, moe: bool = True
) -> Path:
    """Write a model with 4-bit MLPs or experts, as the repositories with GPTQ in their names are.

    Made from the weights that `write_moe`, or `write_dense`, writes; so are the arguments.
    """
    kind = Kind(Sizes(scale, moe=moe), tied=not moe, quantisation="gptq")
    return _write(folder, kind, seed, shards)


def _write(folder: Path, kind: Kind, seed: int, shards: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    _write_side_files(folder, kind)
    write_shards(folder, stored_tensors(kind, seed), count=shards)
    return folder


def _write_side_files(folder: Path, kind: Kind) -> None:
    made = tokenizer()
    texts = {
        ".gitattributes": text_of("gitattributes"),
        "LICENSE": text_of("LICENSE"),
        "README.md": text_of("README.md"),
        "chat_template.jinja": text_of("chat_template.jinja"),
        "config.json": _json(config.model_config(kind, made)),
        "generation_config.json": _json(config.generation_config(made)),
        "merges.txt": merges_txt(made),
        "tokenizer.json": _json(tokenizer_json(made)),
        "tokenizer_config.json": _json(tokenizer_config(made)),
        "vocab.json": json.dumps(made.vocab, ensure_ascii=False),
    }
    if kind.vision:
        texts["preprocessor_config.json"] = _json(config.image_config())
        texts["video_preprocessor_config.json"] = _json(config.video_config())
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")


def _json(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
