"""Made-up repositories: their bytes, and folders of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from archiver.tensors.header import header_bytes

if TYPE_CHECKING:
    from pathlib import Path

REPO = "org/model"
WEIGHTS = "model.safetensors"


def noise(seed: int, size: int) -> bytes:
    return np.random.default_rng(seed).integers(0, 256, size, np.uint8).tobytes()


def write_folder(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def files_below(folder: Path) -> dict[str, bytes]:
    """Path and bytes of every file below ``folder``."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def write_model(folder, seed, rows):
    """A small model: one safetensors file of two tensors, and a text file."""
    folder.mkdir(parents=True)
    tensors = [
        ("body.weight", "U8", (rows, 1000), noise(seed, rows * 1000)),
        ("head.weight", "U8", (7, 300), noise(seed + 1, 2100)),
    ]
    head = header_bytes([(name, kind, shape, len(data)) for name, kind, shape, data in tensors])
    weights = bytes(head) + b"".join(data for *_, data in tensors)
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "config.json").write_text(f'{{"seed": {seed}}}')
    return folder


def bf16(seed: int, *shape: int) -> bytes:
    """BF16 weights that look trained."""
    values = np.random.default_rng(seed).standard_normal(shape, np.float32) * np.float32(0.02)
    return (values.view(np.uint32) >> np.uint32(16)).astype("<u2").tobytes()


def safetensors(tensors: dict[str, tuple[str, tuple[int, ...], bytes]]) -> bytes:
    """A safetensors file: name -> dtype, shape, bytes."""
    header, body = {}, b""
    for name, (dtype, shape, data) in tensors.items():
        offsets = [len(body), len(body) + len(data)]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": offsets}
        body += data
    return with_header(json.dumps(header).encode(), body)


def with_header(header: bytes, body: bytes) -> bytes:
    """A safetensors file with exactly this header."""
    return len(header).to_bytes(8, "little") + header + body


def weights(seed: int = 0) -> bytes:
    """Three tensors, 26 KB."""
    return safetensors(
        {
            "embed.weight": ("BF16", (64, 128), bf16(seed, 64, 128)),
            "layer.weight": ("BF16", (32, 128), bf16(seed + 1, 32, 128)),
            "norm.weight": ("BF16", (128,), bf16(seed + 2, 128)),
        }
    )


def model(seed: int = 0) -> dict[str, bytes]:
    """A small repository: weights and a tokenizer in LFS, the rest in git, one empty file."""
    return {
        ".gitattributes": b"*.safetensors filter=lfs\n",
        "README.md": b"# A model\n" * 50,
        "config.json": b'{"model_type": "tiny"}\n',
        "empty.txt": b"",
        "sub/folder/notes.txt": b"notes\n",
        "tokenizer.json": json.dumps({"vocab": list(range(3000))}).encode(),
        WEIGHTS: weights(seed),
    }
