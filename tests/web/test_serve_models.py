"""Models that are served load and compute as those that are restored; and what other hubs' are called."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import RepositoryNotFoundError
from kit.archive import copy, seals
from kit.cli import invoke
from kit.repository import files_below, model, write_folder
from kit.served import served
from servedkit import LARGE, MODEL, large

from archiver.demo.checkpoints import write_dense

LOAD = """
import sys, torch, transformers
from transformers import AutoModelForCausalLM, AutoTokenizer
transformers.utils.logging.disable_progress_bar()
folder = sys.argv[1]
told = []
for name in ("org/dense", folder):
    tokenizer = AutoTokenizer.from_pretrained(name)
    ids = tokenizer("The archive is intact.", return_tensors="pt").input_ids
    model = AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32).eval()
    with torch.no_grad():
        told.append((ids, model(input_ids=ids).logits))
(ids, logits), (own_ids, own_logits) = told
assert ids.shape[1] > 3 and torch.equal(ids, own_ids)
assert torch.equal(logits, own_logits) and logits.std() > 0
print("the same", tuple(logits.shape))
"""


def test_transformers_needs_nothing_but_the_endpoint(cli, archive, tmp_path):
    folder = write_dense(tmp_path / "dense", shards=3, vision=False)
    words = ("--as", "org/dense", "--min-free", "0B")
    assert cli("import", "-C", archive, folder, *words).code == 0
    restored = tmp_path / "restored"
    assert cli("restore", "-C", archive, "org/dense", restored).code == 0
    with served(archive) as server:
        environ = os.environ | {"HF_ENDPOINT": server.endpoint, "HF_HOME": str(tmp_path / "home")}
        environ |= {"OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", LOAD, str(restored)]
        ran = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr
        assert "the same" in ran.stdout
        # What came from no hub has no git ids: clients check it by its SHA-256.
        api = HfApi(endpoint=server.endpoint, token=False)
        cache = tmp_path / "home/hub"
        found = api.verify_repo_checksums("org/dense", cache_dir=cache)
        assert not found.mismatches
        assert found.checked_count


def test_what_modelscope_has_goes_by_a_name_of_its_own(
    cli, archive, modelscope, hub, waits, tmp_path
):
    modelscope.create("org/model", model(1))
    hub.create("org/model", model(2))
    for name in ("modelscope:org/model", "org/model"):
        assert cli("mirror", "-C", archive, name, "--min-free", "0B").code == 0
    modelscope.create("org/only", model(3))
    assert cli("mirror", "-C", archive, "modelscope:org/only", "--min-free", "0B").code == 0
    with served(archive) as server:
        api = HfApi(endpoint=server.endpoint, token=False)
        for name, seed in (("modelscope.org/model", 1), ("org/model", 2)):
            got = api.snapshot_download(name, cache_dir=tmp_path / "cache")
            assert files_below(Path(got)) == model(seed)
        got = api.snapshot_download("modelscope.org/only", revision="master", cache_dir=tmp_path)
        assert files_below(Path(got)) == model(3)
        names = {each.id for each in api.list_models()}
        assert names == {"org/model", "modelscope.org/model", "modelscope.org/only"}
        with pytest.raises(RepositoryNotFoundError, match=r"holds modelscope\.org/only"):
            api.model_info("org/only")


def test_what_is_mirrored_meanwhile_is_served_without_a_restart(
    cli, archive, mirror, hub, tmp_path
):
    hub.create("org/model", model(1))
    assert mirror("--min-free", "0B").code == 0
    with served(archive) as server:
        api = HfApi(endpoint=server.endpoint, token=False)
        first = api.model_info("org/model").sha
        second = hub.commit("org/model", model(2))
        assert mirror("--min-free", "0B").code == 0
        deadline = time.monotonic() + 600  # twenty times what a look took
        while api.model_info("org/model").sha != second:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        got = api.snapshot_download("org/model", cache_dir=tmp_path)
        assert files_below(Path(got)) == model(2)
        assert api.model_info("org/model", revision=first).sha == first


def test_what_lost_its_seal_is_served_by_its_manifest(history, tmp_path):
    archive = copy(history.archive, tmp_path / "archive")
    for seal in seals(archive, "org/part"):
        seal.unlink()
    (other,) = seals(archive, "org/large")
    other.chmod(0o644)
    other.write_bytes(other.read_bytes().replace(b'"kind"', b'"kinD"'))
    with served(archive) as server:
        api = HfApi(endpoint=server.endpoint, token=False)
        got = api.snapshot_download("org/part", cache_dir=tmp_path / "cache")
        assert files_below(Path(got)) == {
            path: data for path, data in model(9).items() if path.endswith(".json")
        }
        assert server.ask(f"/org/large/resolve/main/{LARGE}").body == large()[LARGE]
        assert api.model_info(MODEL).sha == history.commits[2]


def test_an_archive_whose_disk_is_away_is_not_taken_for_an_empty_one(history, tmp_path):
    archive = copy(history.archive, tmp_path / "archive")

    def ask_until(status: int) -> None:
        deadline = time.monotonic() + 600  # twenty times what a look took
        while (got := server.ask(f"/api/models/{MODEL}").status) != status:
            assert got in {200, 503}
            assert time.monotonic() < deadline
            time.sleep(0.1)

    with served(archive) as server:
        ask_until(200)
        archive.rename(tmp_path / "away")
        ask_until(503)
        for page in ("/", f"/repositories/{MODEL}", "/status", "/fixity", "/plans", "/journal"):
            answer = server.ask(page)
            assert answer.status == 503
            assert b"not where it was" in answer.body
        (tmp_path / "away").rename(archive)
        ask_until(200)


def test_an_archive_is_a_hub_for_another_archive(
    history, server, cli, tmp_path, monkeypatch, waits
):
    other = tmp_path / "other"
    assert invoke("init", "-q", "-C", other) == 0
    monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
    assert cli("mirror", "-C", other, MODEL, "--min-free", "0B").code == 0
    assert cli("mirror", "-C", other, f"{MODEL}@v1.0", "--min-free", "0B").code == 0
    target = tmp_path / "restored"
    assert cli("restore", "-C", other, f"{MODEL}@{history.commits[0]}", target).code == 0
    assert files_below(target) == history.model[history.commits[0]]
    assert cli("watch", "-C", other, MODEL).code == 0


def test_fifty_clients_at_once_get_what_they_asked_for(server):
    data = large()[LARGE]
    path = f"/org/large/resolve/main/{LARGE}"

    def whole(number: int) -> bool:
        if number % 5 == 0:
            answer = server.ask(path)
            return hashlib.sha256(answer.body).digest() == hashlib.sha256(data).digest()
        start = number * 700_001 % len(data)
        stop = min(len(data), start + 3_000_017)
        answer = server.ask(path, {"Range": f"bytes={start}-{stop - 1}"})
        return answer.status == 206 and answer.body == data[start:stop]

    with ThreadPoolExecutor(50) as pool:
        assert all(pool.map(whole, range(100)))


def test_of_two_that_would_share_a_name_hugging_faces_is_served(cli, archive, tmp_path):
    for name, seed in (("modelscope:org/model", 1), ("modelscope.org/model", 2)):
        folder = write_folder(tmp_path / str(seed), {"config.json": b"%d" % seed})
        words = ("--as", name, "--min-free", "0B")
        assert cli("import", "-q", "-C", archive, folder, *words).code == 0
    with served(archive) as server:
        api = HfApi(endpoint=server.endpoint, token=False)
        got = api.snapshot_download("modelscope.org/model", cache_dir=tmp_path / "cache")
        assert files_below(Path(got)) == {"config.json": b"2"}
        assert [each.id for each in api.list_models()] == ["modelscope.org/model"]
