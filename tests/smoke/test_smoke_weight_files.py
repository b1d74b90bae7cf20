"""What lies in the place of weights, shards that are not there, zeros: told without any library."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING

import pytest
from kit.gguf_files import gguf_file
from smokekit import archive_of

from archiver.tensors.header import header_bytes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from smokecli import Command, Said

LIBRARIES = ("torch", "transformers", "accelerate", "tokenizers", "safetensors", "PIL")
POINTER = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\n"
    b"size 4200000000\n"
)
PAGE = b"<html><head><title>Sign in</title></head></html>"
MIB = 1 << 20


@pytest.fixture
def bare(smoke: Command) -> Callable[..., Said]:
    """Level structure without the extra's libraries, as JSON lines."""

    def call(*args: object) -> Said:
        return smoke.json("smoke-test", *args, "--level", "structure", without=LIBRARIES)

    return call


def found(said: Said) -> dict[str, dict[str, str]]:
    """The findings by code, but for what could not be tried."""
    rows = said.kinds("finding")
    return {row["code"]: row for row in rows if row["code"] != "model-not-tried"}


def model(folder: Path, tensors: list[tuple[str, bytes]]) -> Path:
    """A folder with a model of these tensors."""
    folder.mkdir()
    head = header_bytes([(name, "F32", [len(data) // 4], len(data)) for name, data in tensors])
    weights = head + b"".join(data for _, data in tensors)
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "config.json").write_text('{"model_type": "none"}')
    return folder


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "model.gguf"])
@pytest.mark.parametrize(
    ("data", "words", "hint"),
    [(POINTER, "is a Git LFS pointer", "git lfs pull"), (PAGE, "is an HTML page", "download")],
)
def test_what_lies_in_the_place_of_weights(bare, tmp_path, name, data, words, hint):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / name).write_bytes(data)
    said = bare(tmp_path)
    assert said.code == 25
    finding = found(said)["model-unreadable"]
    assert finding["path"] == name
    assert words in finding["message"]
    assert hint in finding["hint"]


def test_also_in_an_archive_that_has_it_from_upstream(bare, smoke, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"x" * 2000)
    root = tmp_path / "weights"
    archive_of(folder, root)
    assert found(bare("-C", root, "me/model"))["model-unreadable"]
    # A cache that vouches for a pointer: upstream has it so.
    import hashlib

    cache = tmp_path / "models--me--other"
    commit = "0" * 40
    (cache / "blobs").mkdir(parents=True)
    (cache / "snapshots" / commit).mkdir(parents=True)
    name = hashlib.sha1(b"blob %d\0" % len(POINTER) + POINTER).hexdigest()
    (cache / "blobs" / name).write_bytes(POINTER)
    (cache / "snapshots" / commit / "model.safetensors").symlink_to(f"../../blobs/{name}")
    assert smoke("import", "-q", "-C", root, cache).code == 0
    said = bare("-C", root, "me/other")
    assert said.code == 25
    assert "is a Git LFS pointer" in found(said)["model-unreadable"]["message"]


def test_an_index_of_pickles_whose_shard_is_not_there(bare, tmp_path):
    index = {"metadata": {}, "weight_map": {"a": "m-1.bin", "b": "m-2.bin"}}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "m-1.bin").write_bytes(b"\x80\x04.")
    said = bare(tmp_path)
    assert said.code == 25
    assert "m-2.bin, which is not there" in found(said)["model-index"]["message"]
    (tmp_path / "m-2.bin").write_bytes(b"\x80\x04.")
    assert bare(tmp_path).code == 4  # pickles are never opened


def test_gguf_files_are_looked_at_and_not_run(bare, tmp_path):
    """Cut off, or without a part, no program can load it; whole, it is for other programs than ours."""
    folder, root = tmp_path / "model", tmp_path / "weights"
    folder.mkdir()
    whole = gguf_file({"a": ("Q8_0", (32, 2048), os.urandom(34 * 2048))})
    (folder / "m.gguf").write_bytes(whole)
    (folder / "newer.gguf").write_bytes(b"GGUF\4" + bytes(60))
    archive_of(folder, root)
    for said in (bare(folder), bare("-C", root, "me/model")):
        assert said.code == 4
        assert "The only weights are GGUF files, which transformers does not run" in said.out
    (folder / "m.gguf").write_bytes(whole[:-1])
    for part in (1, 3):
        (folder / f"n-{part:05}-of-00004.gguf").write_bytes(whole)
    said = bare(folder)
    assert said.code == 25
    codes = found(said)
    assert codes["model-unreadable"]["path"] == "m.gguf"
    assert "m.gguf: The file is cut off" in codes["model-unreadable"]["message"]
    assert codes["model-index"]["path"] == "n-00001-of-00004.gguf"
    assert (
        "2 of its 4 parts are not there: n-00002-of-00004.gguf" in codes["model-index"]["message"]
    )


def test_large_tensors_of_zeros_are_counted_in_one_remark(bare, tmp_path):
    tensors = [
        ("a.weight", bytes(MIB + 4)),
        ("b.weight", bytes(20 * MIB)),
        ("c.weight", bytes(17 * MIB - 4) + b"\1" * 4),
        ("d.bias", bytes(MIB)),
        ("e.weight", os.urandom(2 * MIB)),
        ("f.weight", bytes(2 * MIB)),
        ("g.weight", bytes(10 * MIB) + b"\1" * 4 + bytes(MIB)),
    ]
    folder = model(tmp_path / "model", tensors)
    root = tmp_path / "weights"
    archive_of(folder, root)
    for said in (bare(folder), bare("-C", root, "me/model")):
        assert said.code == 0, said.err
        finding = found(said)["model-tensor-zero"]
        assert finding["remark"]
        assert finding["path"] == "model.safetensors"
        assert finding["message"] == (
            "3 tensors of more than 1 MiB hold nothing but zeros (24.1 MB): "
            "a.weight, b.weight, f.weight."
        )
    shutil.rmtree(folder)
    folder = model(tmp_path / "model", tensors[2:5])
    assert "model-tensor-zero" not in found(bare(folder))


def test_what_tools_leave_is_no_part_of_a_model(bare, tmp_path):
    folder = model(tmp_path / "model", [("a.weight", os.urandom(5000))])
    for name in ("._model.safetensors", "x.safetensors.aria2", "._____temp/m.safetensors"):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"\x00\x05\x16\x07")
    said = bare(folder)
    assert said.code == 0, said.err
    assert found(said) == {}
    (folder / "model.safetensors.aria2").write_bytes(b"x")
    said = bare(folder)
    assert said.code == 25
    assert "model.safetensors (its download did not end: model.safetensors.aria2" in said.err
