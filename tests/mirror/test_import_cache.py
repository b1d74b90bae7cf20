"""Hub clients' caches as the clients write them today, through import, verify, smoke-test and repair."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from kit.archive import seals
from kit.repository import REPO, WEIGHTS, files_below, model, weights

from archiver.demo.checkpoints import write_dense

if TYPE_CHECKING:
    from pathlib import Path

TYPES = {"model": "models", "dataset": "datasets", "space": "spaces", "kernel": "kernels"}


@pytest.fixture
def download(hub, tmp_path):
    """Downloads a repository with the hub's own client; the repository's folder in the cache."""
    from huggingface_hub import snapshot_download

    def call(repository=REPO, **options):
        cache = tmp_path / "cache"
        options = {"endpoint": hub.endpoint, "cache_dir": cache, "token": False} | options
        snapshot_download(repository, **options)
        return cache / ("models--" + repository.replace("/", "--"))

    return call


def share(entry: Path) -> int:
    """Move the blobs of LFS files into the cache's shared store, with the client's own function."""
    from huggingface_hub.utils._shared_blobs import publish_blob_to_shared_store

    shared = 0
    for blob in sorted((entry / "blobs").iterdir()):
        if len(blob.name) == 64 and not blob.is_symlink():
            shared += publish_blob_to_shared_store(
                blob_path=str(blob),
                xet_hash=hashlib.sha256(
                    blob.name.encode()
                ).hexdigest(),  # Xet's own is another hash
                cache_dir=str(entry.parent),
                expected_size=blob.stat().st_size,
            )
    return shared


def other_type(cache: Path, kind: str, name: str) -> None:
    """A repository of another type, as the client lays it out."""
    entry = cache / f"{TYPES[kind]}--{name.replace('/', '--')}"
    commit = "1" * 40
    for part in ("blobs", "refs", f"snapshots/{commit}"):
        (entry / part).mkdir(parents=True)
    (entry / "refs/main").write_text(commit)
    (entry / "blobs/0123").write_bytes(b"rows")
    (entry / f"snapshots/{commit}/rows.txt").symlink_to("../../blobs/0123")


@pytest.fixture
def local(cli, archive):
    """Imports into the archive, as JSON lines."""
    return lambda *args: cli("import", "--json", "-C", archive, *args, "--min-free", "0B")


def of_kind(result, kind):
    return [row for row in result.records if row["kind"] == kind]


def remarks(result):
    (row,) = of_kind(result, "mirror")
    return {one["kind"]: one for one in row["remarks"]}


@pytest.mark.parametrize("tree", [True, False])
@pytest.mark.parametrize("form", ["root", "entry", "snapshot"])
def test_a_cache_with_a_shared_store_is_imported_and_restored(
    hub, download, local, cli, archive, tmp_path, form, tree
):
    commit = hub.create(REPO, model())
    entry = download()
    assert share(entry) == 2
    assert (entry / "blobs" / hashlib.sha256(weights()).hexdigest()).is_symlink()
    if not tree:
        shutil.rmtree(entry / "trees")
    place = {"root": entry.parent, "entry": entry, "snapshot": entry / "snapshots" / commit}[form]
    result = local(place)
    assert result.code == 0, result.err
    assert cli("restore", "-C", archive, f"{REPO}@{commit}", tmp_path / "out").code == 0
    assert files_below(tmp_path / "out") == model()
    exported = tmp_path / "manifest.json"
    assert cli("manifest", "export", "-C", archive, REPO, "-o", exported).code == 0
    listed = {row["path"]: row for row in json.loads(exported.read_text())["files"]}
    assert listed[WEIGHTS]["lfs"]
    assert cli("verify", entry / "snapshots" / commit, "--manifest", exported).code == 0


def test_no_other_place_is_taken_for_the_shared_store(hub, download, local, tmp_path):
    hub.create(REPO, model())
    entry = download()
    shutil.rmtree(entry / "trees")
    blob = next(one for one in (entry / "blobs").iterdir() if len(one.name) == 64)
    shared = entry.parent / "blobs"
    digest = hashlib.sha256(b"x").hexdigest()
    places = (
        shared / digest[:2] / "note",
        shared / digest,
        shared / ("00" if digest[:2] != "00" else "11") / digest,
        tmp_path / "elsewhere" / digest[:2] / digest,
        entry.parent / "models--a--b" / "blobs" / digest,
    )
    for place in places:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(blob.read_bytes())
        blob.unlink()
        blob.symlink_to(os.path.relpath(place, blob.parent))
        result = local(entry)
        assert result.code == 2, place
        assert "a link that leads out of it" in result.err
    # The whole store elsewhere, behind a link.
    inside = tmp_path / "elsewhere2" / digest[:2] / digest
    inside.parent.mkdir(parents=True)
    inside.write_bytes(blob.read_bytes())
    shutil.rmtree(shared)
    shared.symlink_to(tmp_path / "elsewhere2")
    blob.unlink()
    blob.symlink_to(f"../../blobs/{digest[:2]}/{digest}")
    assert local(entry).code == 2


def test_a_shared_store_serves_a_smoke_test_and_a_repair(
    hub, download, local, cli, archive, tmp_path
):
    write_dense(tmp_path / "dense")
    commit = hub.create(REPO, files_below(tmp_path / "dense"))
    entry = download()
    assert share(entry)
    for place in (entry, entry / "snapshots" / commit):
        assert smoke(place) == (0, "")
    assert local(entry).code == 0
    (pack,) = archive.glob("packs/*/*.pack")
    pack.chmod(0o644)
    pack.write_bytes(pack.read_bytes()[:5000])
    assert cli("repair", "-C", archive, "--no-upstream", "--from", entry.parent).code == 0
    assert cli("audit", "-C", archive, "--level", "content").code == 0


def smoke(*arguments: object) -> tuple[int, str]:
    """A smoke test in a process of its own, which it sets up for itself: its exit code and stderr."""
    command = [sys.executable, "-m", "archiver", "smoke-test", "-q", "--level", "structure"]
    done = subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("alone", [True, False])
def test_what_is_neither_model_nor_dataset_is_named_as_skipped(
    hub, download, local, archive, cli, tmp_path, alone
):
    hub.create(REPO, model())
    cache = tmp_path / "cache"
    if not alone:
        download()
    other_type(cache, "space", "Org/Show")
    other_type(cache, "kernel", "Org/Fast")
    (cache / "models--Org--Nothing/blobs").mkdir(parents=True)
    result = local(cache)
    assert {(row["type"], row["repository"]) for row in of_kind(result, "skipped")} == {
        ("space", "Org/Show"),
        ("kernel", "Org/Fast"),
        ("model", "Org/Nothing"),
    }
    assert "The space Org/Show was skipped: archiver keeps models and datasets." in result.err
    assert result.code == (2 if alone else 0)
    assert len(seals(archive)) == (0 if alone else 1)
    if alone:
        assert "holds neither a model nor a dataset" in result.err
        assert local(cache / "spaces--Org--Show").code == 2
        assert local(cache, "--as", "me/rows").code != 0
        assert not seals(archive)


def test_a_cache_inside_a_plain_folder_is_not_taken_for_files(hub, download, local, tmp_path):
    hub.create(REPO, model())
    download(cache_dir=tmp_path / "home/hub")
    other_type(tmp_path / "sets/hub", "dataset", "Org/Rows")
    for folder in ("home", "sets"):
        result = local(tmp_path / folder)
        assert result.code == 2
        assert "a hub client's cache in hub" in result.err


def test_a_cache_without_its_record_is_of_unknown_completeness(
    hub, download, local, cli, archive, waits
):
    files = sharded(3)
    commit = hub.create(REPO, files)
    entry = download()
    shutil.rmtree(entry / "trees")
    (entry / "snapshots" / commit / shard(2, 3)).unlink()
    (entry / "snapshots" / commit / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    result = local(entry)
    assert result.code == 0
    told = remarks(result)
    assert told["shards-missing"]["paths"] == [shard(2, 3)]
    assert told["shards-missing"]["index"] == INDEX
    assert told["left-out"]["paths"] == [".DS_Store"]
    assert "selection-unknown" in told
    assert f"'archiver mirror -C {archive} {REPO}@{commit}'" in result.err
    assert "model.safetensors-00002-of-00003.safetensors" in result.err
    (seal,) = seals(archive)
    assert json.loads(seal.read_bytes())["selection"]["completeness"] == "unknown"
    shown = cli("show", "-C", archive, REPO).out
    assert "every file" not in shown
    assert "unknown" in shown
    (row,) = [
        row for row in cli("list", "-C", archive, "--json").records if row["kind"] == "snapshot"
    ]
    assert not row["whole"]
    decode = [sys.executable, archive / "decode.py", "restore", REPO, archive.parent / "decoded"]
    done = subprocess.run([*map(str, decode)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "perhaps not every file" in done.stdout + done.stderr
    # Again: nothing new. And a mirror makes it whole, which is what is restored from then on.
    assert of_kind(local(entry), "mirror")[0]["outcome"] == "held"
    assert len(seals(archive)) == 1
    assert cli("mirror", "-C", archive, f"{REPO}@{commit}", "--min-free", "0B").code == 0
    assert len(seals(archive)) == 2
    assert "every file" in cli("show", "-C", archive, REPO).out


def test_a_restored_cache_carries_the_record_to_the_next_archive(
    hub, local, cli, archive, waits, tmp_path, download
):
    commit = hub.create(REPO, model())
    assert cli("mirror", "-C", archive, REPO, "--min-free", "0B").code == 0
    out = tmp_path / "out"
    assert cli("restore", "-C", archive, REPO, out, "--layout", "hf-cache").code == 0
    ours = out / "models--org--model/trees" / f"{commit}.json"
    theirs = download() / "trees" / f"{commit}.json"
    assert json.loads(ours.read_bytes()) == json.loads(theirs.read_bytes())
    other = tmp_path / "other"
    assert cli("init", "-C", other).code == 0
    result = cli("import", "--json", "-C", other, out, "--min-free", "0B")
    assert remarks(result) == {}
    assert "every file" in cli("show", "-C", other, REPO).out
    for part in ("--file", "*.json"), ():
        again = tmp_path / f"again{len(part)}"
        cli("restore", "-C", archive, REPO, again, "--layout", "hf-cache", *part)
        assert (again / "models--org--model/trees").exists() == (not part)


def test_a_record_beyond_its_bound_counts_as_none(hub, download, local):
    commit = hub.create(REPO, model())
    entry = download()
    path = entry / "trees" / f"{commit}.json"
    record = json.loads(path.read_bytes())
    one = record["files"]["README.md"]
    record["files"] |= {f"f{n}": one for n in range(100_000)}
    path.write_text(json.dumps(record))
    result = local(entry)
    assert result.code == 0, result.err
    assert "selection-unknown" in remarks(result)


def test_what_the_record_lists_is_content_whatever_its_name(hub, download, local, cli, archive):
    files = model() | {".DS_Store": b"x", ".msc": b"y", "notes.part": b"z", "._a/b": b"b"}
    commit = hub.create(REPO, files)
    entry = download()
    (entry / "snapshots" / commit / "notes.txt").write_bytes(b"mine")
    result = local(entry)
    assert result.code == 0, result.err
    assert of_kind(result, "mirror")[0]["files"] == len(files)
    assert remarks(result)["left-out"]["paths"] == ["notes.txt"]
    assert remarks(result)["left-out"]["left"] == "unlisted"


def test_a_blob_that_is_too_short_and_a_link_that_leads_nowhere(hub, download, local, archive):
    hub.create(REPO, model())
    entry = download()
    blob = entry / "blobs" / hashlib.sha256(weights()).hexdigest()
    os.truncate(blob, 1000)
    result = local(entry)
    assert result.code == 22
    assert f"{WEIGHTS} is too short: 1,000 of {len(weights()):,} bytes" in result.err
    assert "upstream" not in result.err
    blob.unlink()
    result = local(entry)
    assert result.code == 2
    assert f"{WEIGHTS} (it is a link that leads nowhere)" in result.err
    shutil.rmtree(entry / "trees")
    assert "leads nowhere" in local(entry).err
    assert not seals(archive)


def test_a_blob_of_other_bytes_is_told_as_the_caches_fault(hub, download, local, archive):
    hub.create(REPO, model())
    entry = download()
    blob = entry / "blobs" / hashlib.sha256(weights()).hexdigest()
    blob.write_bytes(weights(7))
    result = local(entry)
    assert result.code == 22
    assert "the cache lists" in result.err
    assert "download it again" in result.err
    assert "upstream" not in result.err
    assert not seals(archive)


# ---- sharded repositories

INDEX = "model.safetensors.index.json"


def shard(number: int, total: int) -> str:
    return f"model.safetensors-{number:05}-of-{total:05}.safetensors"


def sharded(total: int) -> dict[str, bytes]:
    """A repository of a few shards, named as those of Qwen3.5."""
    names = [shard(number + 1, total) for number in range(total)]
    index = {"metadata": {}, "weight_map": {f"w.{n}": name for n, name in enumerate(names)}}
    files = {name: weights(n) for n, name in enumerate(names)}
    return files | {INDEX: json.dumps(index).encode(), "config.json": b"{}", "a.txt": b"a"}
