"""What the end-to-end tests share besides fixtures: a small model, and what must hold after a run."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import numpy as np
from kit.cli import Result

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

REPO = "org/model"
WEIGHTS = "model.safetensors"


def checked(code: int, out: str, err: str) -> Result:
    """A run's result, once it is sure that errors came as sentences."""
    for trace in ("Traceback", "did not expect", "sqlite3.", "sqlalchemy"):
        assert trace not in err + out, err + out
    if code not in {0, 2} and not out.startswith("{"):
        assert "archiver: " in err or "could not be restored" in out or "damaged:" in err, err + out
    return Result(code, out, err)


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


def seals(archive: Path) -> list[Path]:
    """The archive's seals."""
    return sorted((archive / "snapshots").rglob("*.json"))


def tmp_names(archive: Path) -> list[str]:
    """What lies in ``tmp/``, less the room that is put by."""
    return sorted(path.name for path in (archive / "tmp").iterdir() if path.name != "reserve")


def assert_nothing_published(archive: Path) -> None:
    """No seal, no manifest, no word of it in the journal; only leftovers in tmp."""
    for folder in ("snapshots", "manifests", "journal"):
        assert not [path for path in (archive / folder).rglob("*") if path.is_file()], folder
    for path in (archive / "tmp").glob("*-*"):
        assert path.name.startswith(("pack-", "work-", "put-")), path


def noted(archive: Path) -> int:
    """The bytes of the weights that worklogs know, from the first byte on without a gap."""
    known = {}
    for path in (archive / "tmp").glob("work-*"):
        for row in path.read_bytes().splitlines():
            try:
                name, begin, size, _ = json.loads(row)
            except ValueError:
                continue
            if name == WEIGHTS:
                known[begin] = size
    at = 0
    while at in known:
        at += known[at]
    return at


def wait_until(condition: Callable[[], object], seconds: float = 600) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)
