"""Which files of weights make the model, where there are several."""

from __future__ import annotations

import json
from typing import Any

import pytest

from archiver.smoke.checkpoint.files import model_files

INDEX = "model.safetensors.index.json"


class Fake:
    """A checkpoint of such files; the index, where there is one, names one of them."""

    def __init__(self, names: str, index: str = "", shard: str = "") -> None:
        self._index = json.dumps({"weight_map": {"a": shard}}).encode()
        self.files = dict.fromkeys([*names.split(), *([index] if index else [])], 1)

    def read(self, _path: str, _limit: int) -> bytes:
        return self._index


@pytest.mark.parametrize(
    ("checkpoint", "chosen"),
    [
        (Fake("b.safetensors a.safetensors"), "a.safetensors b.safetensors"),
        (Fake("a.safetensors deep/b.safetensors"), "a.safetensors"),
        (Fake("deep/b.safetensors deep/a.safetensors"), "deep/a.safetensors deep/b.safetensors"),
        (Fake("a.safetensors model.safetensors", INDEX, "a.safetensors"), "model.safetensors"),
        (Fake("a.safetensors b.safetensors", INDEX, "a.safetensors"), "a.safetensors"),
        (
            Fake("a.safetensors deep/b.safetensors", INDEX, "deep/b.safetensors"),
            "deep/b.safetensors",
        ),
        (
            Fake("a.safetensors deep/b.safetensors", f"deep/{INDEX}", "b.safetensors"),
            "a.safetensors",
        ),
        (Fake("a.safetensors", INDEX, "gone.safetensors"), "a.safetensors"),
    ],
)
def test_they_are_chosen_as_the_loader_does(checkpoint: Any, chosen: str):
    assert model_files(checkpoint) == chosen.split()
