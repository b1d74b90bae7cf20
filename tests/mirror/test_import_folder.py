"""Plain folders with what programs leave there, halves, pointers and pages; patterns that miss."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest
from kit.archive import seals
from kit.repository import REPO, WEIGHTS, files_below, model, weights

from archiver.demo.checkpoints import write_dense
from archiver.loopback.faults import Fault
from archiver.operations.mirror.run import files_at_once

INDEX = "model.safetensors.index.json"
TEMPORARY = ".cache/huggingface/download/c.bin.0123.incomplete"
POINTER = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\n"
    b"size 4200000000\n"
)
PAGE = b"\n<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body>Sign in</body></html>\n"


def shard(number: int, total: int) -> str:
    return f"model.safetensors-{number:05}-of-{total:05}.safetensors"


def sharded(total: int) -> dict[str, bytes]:
    """A repository of a few shards, named as those of Qwen3.5."""
    names = [shard(number + 1, total) for number in range(total)]
    index = {"metadata": {}, "weight_map": {f"w.{n}": name for n, name in enumerate(names)}}
    files = {name: weights(n) for n, name in enumerate(names)}
    return files | {INDEX: json.dumps(index).encode(), "config.json": b"{}", "a.txt": b"a"}


@pytest.fixture
def folder(tmp_path):
    """Writes a folder of files."""

    def write(files, name="folder"):
        for path, data in files.items():
            place = tmp_path / name / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
        return tmp_path / name

    return write


@pytest.fixture
def local(cli, archive):
    """Imports into the archive, as JSON lines."""
    return lambda *args: cli("import", "--json", "-C", archive, *args, "--min-free", "0B")


@pytest.fixture
def fetch(cli, archive, waits):
    """Mirrors from the hub, as JSON lines."""
    return lambda *args: cli("mirror", "--json", "-C", archive, *args, "--min-free", "0B")


def report(result):
    (row,) = [row for row in result.records if row["kind"] == "mirror"]
    return row


def remarks(result):
    return {one["kind"]: one for one in report(result)["remarks"]}


def smoke(*arguments: object) -> subprocess.CompletedProcess[str]:
    """A smoke test in a process of its own, which it sets up for itself."""
    command = [sys.executable, "-m", "archiver", "smoke-test", "--json", "--level", "structure"]
    return subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, check=False
    )


# ---- what programs leave


def test_what_tools_and_systems_leave_is_left_out_and_named(folder, local, cli, archive, tmp_path):
    foreign = {
        ".hfd/repo_metadata.json": b"{}",
        ".msc": b"x",
        ".mv": b"x",
        ".mdl": b"x",
        "._____temp/model.safetensors": b"half",
        ".cache/huggingface/download/x.metadata": b"x",
        ".DS_Store": b"x",
        "._config.json": b"\x00\x05\x16\x07",
        "sub/Thumbs.db": b"x",
        "b.bin.incomplete": b"half",
        TEMPORARY: b"half",
    }
    result = local(folder(model() | foreign), "--as", "me/model")
    assert result.code == 0, result.err
    left_out = {one["left"]: one["paths"] for one in report(result)["remarks"]}
    assert left_out == {
        "tool": [".cache/huggingface/", ".hfd/", ".mdl", ".msc", ".mv"],
        "system": [".DS_Store", "._config.json", "sub/Thumbs.db"],
        "unfinished": ["._____temp/", TEMPORARY, "b.bin.incomplete"],
    }
    assert "3 unfinished downloads left out" in result.err
    assert cli("restore", "-C", archive, "me/model", tmp_path / "out").code == 0
    assert files_below(tmp_path / "out") == model()


def test_a_preallocated_half_is_refused_and_so_is_its_smoke_test(folder, local, archive, tmp_path):
    write_dense(tmp_path / "dense")
    files = files_below(tmp_path / "dense")
    name = next(path for path in files if path.endswith(".safetensors"))
    half = files[name][: len(files[name]) // 2]
    files |= {name: half + bytes(len(files[name]) - len(half)), f"{name}.aria2": b"\0\1"}
    place = folder(files | {".hfd/aria2_urls.txt": b"x"})
    result = local(place, "--as", "me/model")
    assert result.code == 2
    assert f"{name} is unfinished ({name}.aria2 lies beside it)" in result.err
    assert "download" in result.err
    assert "upstream" not in result.err
    assert not seals(archive)
    tested = smoke(place)
    assert tested.returncode != 0
    assert "its download did not end" in tested.stderr + tested.stdout
    # Without it, on purpose.
    assert local(place, "--as", "me/model", "--exclude", name).code == 0


def test_an_empty_placeholder_is_half(folder, local, archive):
    place = folder(model() | {"b.gguf": b"", "b.gguf.part": b"half"})
    assert "b.gguf is unfinished" in local(place).err
    assert not seals(archive)


# ---- what lies in the place of weights


@pytest.mark.parametrize(
    ("data", "words", "hint"),
    [
        (POINTER, "is a Git LFS pointer, not the 4.20 GB", "git lfs pull"),
        (PAGE, "is an HTML page, not weights", "download the file again"),
        (b"Entry not found", "is a server's error message", "download the file again"),
        (
            b'<?xml version="1.0"?><Error/>',
            "is a server's error message",
            "download the file again",
        ),
    ],
)
@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "q/model-Q4.gguf"])
def test_a_pointer_or_a_page_is_not_weights(folder, local, archive, data, words, hint, name):
    place = folder({"config.json": b"{}", name: data, "b/README.md": PAGE})
    result = local(place, "--as", "me/model")
    assert result.code == 2
    assert f"{name} {words}" in result.err
    assert hint in result.err
    assert "README" not in result.err
    assert not seals(archive)
    assert local(place, "--as", "me/model", "--exclude", name).code == 0


def test_a_tokenizer_may_be_a_pointer_as_well(folder, local, archive):
    place = folder(model() | {"tokenizer.json": POINTER, "docs/page.json": PAGE})
    result = local(place, "--as", "me/model")
    assert result.code == 2
    assert (
        "1 file of me/model cannot be taken in: tokenizer.json is a Git LFS pointer" in result.err
    )
    assert not seals(archive)


def test_what_upstream_really_has_is_kept_and_remarked(hub, fetch, cli, archive, tmp_path):
    files = model() | {"old/model.safetensors": POINTER, "x/page.bin": PAGE}
    hub.create(REPO, files)
    result = fetch(REPO)
    assert result.code == 0, result.err
    found = {one["paths"][0]: one["instead"] for one in report(result)["remarks"]}
    assert found == {
        "old/model.safetensors": {"kind": "lfs-pointer", "size": 4_200_000_000},
        "x/page.bin": {"kind": "html-page", "size": 0},
    }
    assert "old/model.safetensors is a Git LFS pointer" in result.err
    assert "header" not in result.err
    assert cli("restore", "-C", archive, REPO, tmp_path / "out").code == 0
    assert files_below(tmp_path / "out") == files


def test_an_index_that_names_a_shard_which_is_not_there(folder, local, hub, fetch, archive):
    files = sharded(3)
    del files[shard(3, 3)]
    for result in (local(folder(files), "--as", "me/model"), _mirrored(hub, fetch, files)):
        assert result.code == 0
        assert remarks(result)["shards-missing"] == {
            "kind": "shards-missing",
            "paths": [shard(3, 3)],
            "count": 1,
            "index": INDEX,
            "total": 3,
        }
        assert "cannot be loaded" in result.err


def _mirrored(hub, fetch, files):
    hub.create(REPO, files)
    return fetch(REPO)


def test_an_index_of_pickles_that_names_a_shard_which_is_not_there(folder, local):
    index = {"metadata": {}, "weight_map": {"a": "m-1.bin", "b": "m-2.bin"}}
    files = {"m-1.bin": b"x", "pytorch_model.bin.index.json": json.dumps(index).encode()}
    result = local(folder(files), "--as", "me/model")
    assert remarks(result)["shards-missing"]["paths"] == ["m-2.bin"]


ENDLESS = b'{"weight_map": {' + b",".join(b'"%d":""' % n for n in range(700_001)) + b"}}"


@pytest.mark.parametrize("text", [b"{", b"[]", b'{"weight_map": 5}', b"\xff", ENDLESS], ids=len)
def test_an_index_that_cannot_be_read_is_for_a_smoke_test(folder, local, text):
    result = local(folder({"m.safetensors": weights(), INDEX: text}), "--as", "me/model")
    assert result.code == 0
    assert remarks(result) == {}


# ---- patterns


@pytest.mark.parametrize(
    ("patterns", "kinds"),
    [
        ([], set()),
        (["--include", "*.safetensors", "--include", "*.json"], set()),
        (["--exclude", "*.txt"], set()),
        (
            ["--include", "model-*.safetensors", "--include", "*.json"],
            {"include-fits-nothing", "weights-not-chosen"},
        ),
        (["--exclude", "*.safetensors"], {"weights-not-chosen"}),
        (["--exclude", "*-00002-of-*"], {"shards-not-chosen"}),
        (["--exclude", "*-00002-of-*", "--exclude", "*.json"], {"shards-not-chosen"}),
        (["--include", "*", "--exclude", "*.gguf"], {"exclude-fits-nothing"}),
    ],
)
def test_patterns_that_miss_are_remarked(hub, fetch, patterns, kinds):
    hub.create(REPO, sharded(3))
    for _ in ("sealed", "held"):
        result = fetch(REPO, *patterns)
        assert result.code == 0
        assert set(remarks(result)) == kinds
    assert len(report(result)["remarks"]) == len(kinds)


@pytest.fixture
def sync(cli, archive, tmp_path, waits):
    """Runs a plan of one entry with these lines."""

    def run(*lines, options=()):
        path = tmp_path / "plan.toml"
        entry = "\n".join(['name = "org/model"', *lines])
        path.write_text(f'[plan]\nname = "mine"\n[[repository]]\n{entry}\n')
        return cli("sync", "--json", "-C", archive, path, "--min-free", "0B", *options)

    return run


MISSES = 'include = ["model-*.safetensors", "*.json"]'


def test_a_plan_that_takes_no_weights_fails(hub, sync, archive, cli):
    hub.create(REPO, sharded(3))
    for _ in range(2):
        result = sync(MISSES)
        assert result.code == 3
        assert "The patterns take no weights; the repository has 3 files of them" in result.err
        assert "model-*.safetensors" in result.err
        assert "partial = true" in result.err
    assert len(seals(archive)) == 1
    assert sync(MISSES, options=["--dry-run"]).code == 3
    result = sync(MISSES, "partial = true")
    assert result.code == 0
    assert result.err == ""
    assert sync('exclude = ["*-00002-of-*"]').code == 3
    shared = sync('exclude = ["*.bin", "original/*"]')
    assert shared.code == 0
    assert "The exclude patterns fit no file of the repository: *.bin, original/*." in shared.err
    assert "fit no file" not in sync('exclude = ["*.bin"]', "partial = true").err
    assert sync('include = ["*", "*.model"]').code == 3
    assert sync('include = ["*.safetensors", "*.json"]').code == 0
    assert sync(options=["--include", "*.json"]).code == 0


def test_partial_must_be_a_truth_value(sync):
    for line in ('partial = "yes"', "partial = 1"):
        result = sync(MISSES, line)
        assert result.code == 2
        assert "partial must be true or false" in result.err
    assert "of no use without include or exclude" in sync("partial = true").err


def test_an_import_speaks_of_a_folder(folder, local, archive):
    place = folder(model())
    (place / os.fsdecode(b"\xff")).write_bytes(b"")
    result = local(place)
    assert result.code == 22
    assert "names that could not be written elsewhere" in result.err
    for word in ("upstream", "publisher", "fetched"):
        assert word not in result.err.lower()
    shutil.rmtree(place)
    result = local(place)
    assert "There is no folder" in result.err
    assert "upstream" not in result.err.lower()


def test_a_page_that_a_proxy_sends_for_weights_is_named(hub, fetch, archive):
    page = b"<!DOCTYPE html><html><head><title>Sign in</title></head></html>"
    hub.create(REPO, model())
    size = len(weights())
    for body in (page + b" " * (size - len(page)), page):
        hub.faults.clear()
        fault = Fault(
            "forge", path=WEIGHTS, route="cdn", forge=lambda _n, b=body: (b, {}), times=None
        )
        hub.faults.add(fault)
        result = fetch(REPO)
        assert result.code == 22
        assert f"{WEIGHTS} is an HTML page, not weights" in result.err
        assert not seals(archive)


def test_verify_remarks_what_makes_no_model(hub, fetch, cli, archive, tmp_path):
    files = sharded(3) | {"old/model.safetensors": POINTER}
    del files[shard(3, 3)]
    hub.create(REPO, files)
    assert fetch(REPO).code == 0
    manifest, out = tmp_path / "manifest.json", tmp_path / "out"
    assert cli("manifest", "export", "-C", archive, REPO, "-o", manifest).code == 0
    assert cli("restore", "-C", archive, REPO, out).code == 0
    result = cli("verify", "--json", out, "--manifest", manifest)
    assert result.code == 0
    found = {row["code"]: row for row in result.records if row["kind"] == "finding"}
    assert set(found) == {"index-incomplete", "not-weights"}
    assert found["index-incomplete"]["path"] == INDEX
    assert shard(3, 3) in found["index-incomplete"]["message"]
    assert "Git LFS pointer" in found["not-weights"]["message"]
    assert [row["intact"] for row in result.records if row["kind"] == "verify"] == [True]
    (out / INDEX).write_bytes(b"{}")
    result = cli("verify", "--json", out, "--manifest", manifest)
    assert result.code == 20


@pytest.mark.parametrize(("workers", "files"), [(1, 4), (16, 4), (24, 6), (64, 16), (200, 16)])
def test_files_at_once_keep_those_busy_that_encode(workers, files):
    assert files_at_once(workers) == files
