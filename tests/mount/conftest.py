from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest
from kit.cli import invoke
from kit.gguf_files import gguf_file, tensor_bytes
from kit.mounts import Mounted
from kit.repository import bf16, noise, safetensors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ODD = "odd names/a:b *?\n\u00e9\u4e2d\U0001f600 .txt"


class Held(NamedTuple):
    """An archive, and the files of each folder that a mount of it must have."""

    archive: Path
    files: dict[str, dict[str, bytes]]
    first: str
    second: str


def large() -> bytes:
    """A safetensors file of several segments: one tensor of 20 MB, two small ones."""
    return safetensors(
        {
            "embed.weight": ("BF16", (5000, 2000), bf16(1, 5000, 2000)),
            "norm.weight": ("BF16", (128,), bf16(2, 128)),
            "scale": ("F32", (3, 4), noise(3, 48)),
        }
    )


def gguf() -> bytes:
    return gguf_file(
        {
            "token_embd.weight": ("Q8_0", (64, 1024), tensor_bytes("Q8_0", (64, 1024), 5)),
            "output_norm.weight": ("F32", (64,), tensor_bytes("F32", (64,), 6)),
        },
        {"general.name": "made up", "llama.block_count": 1},
    )


@pytest.fixture(scope="module")
def held(tmp_path_factory) -> Iterator[Held]:
    """Two revisions of a model with a branch and a tag, a dataset, a model of another hub."""
    from archiver.loopback.hub import Hub
    from archiver.loopback.modelscope import ModelScopeHub

    archive = tmp_path_factory.mktemp("mounted") / "weights"
    before = {
        "config.json": b'{"version": 1}\n',
        "model.safetensors": large(),
        "sub/folder/empty.txt": b"",
        "model.gguf": gguf(),
        ODD: b"odd\n",
    }
    after = before | {"config.json": b'{"version": 2}\n'}
    data = {"data/train.jsonl": b'{"text": "x"}\n' * 1000}
    assert invoke("init", "-q", "-C", archive) == 0
    with Hub() as hub, ModelScopeHub() as modelscope, pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_ENDPOINT", hub.endpoint)
        patch.setenv("MODELSCOPE_ENDPOINT", modelscope.endpoint)
        first = hub.create("org/model", before)
        hub.tag("org/model", "v1/old")
        assert invoke("mirror", "-q", "-C", archive, "org/model") == 0
        second = hub.commit("org/model", after)
        hub.branch("org/model", "next")
        hub.create("datasets/org/data", data)
        modelscope.create("org/model", {"config.json": b"{}\n"})
        names = ("org/model", "datasets/org/data", "modelscope:org/model")
        assert invoke("mirror", "-q", "-C", archive, *names) == 0
        assert invoke("watch", "-q", "-C", archive, "org/model") == 0
    assert invoke("audit", "-q", "-C", archive) == 0
    files = {
        f"org/model/{first}": before,
        f"org/model/{second}": after,
        "datasets/org/data/main": data,
        "modelscope:org/model/master": {"config.json": b"{}\n"},
    }
    return Held(archive, files, first, second)


@pytest.fixture(scope="module")
def mounted(held, tmp_path_factory) -> Iterator[Mounted]:
    """The same, mounted; for tests that change nothing."""
    with Mounted(held.archive, tmp_path_factory.mktemp("mount") / "m") as running:
        yield running
