"""Datasets: fetched from a hub by the same code as models, imported and restored as its client has them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from kit.archive import seals
from kit.repository import files_below, noise

NAME = "datasets/Org/Rows"
FILES = {
    "README.md": b"---\nlicense: mit\n---\n",
    "data/train-00000-of-00001.parquet": b"PAR1" + noise(1, 70_000) + b"PAR1",
    "data/dir?x#y/odd\n%41\\name.txt": b"odd",
}
CLIENT = """
import sys
from huggingface_hub import snapshot_download
print(snapshot_download(sys.argv[1], repo_type="dataset", local_files_only=True))
"""


@pytest.fixture
def held(hub, mirror):
    commit = hub.create(NAME, FILES, card={"license": "mit"})
    hub.create("Org/Rows", {"config.json": b"{}"})
    assert mirror(NAME).code == 0
    return commit


def test_the_loopback_hub_serves_datasets_to_the_real_client(hub, tmp_path):
    from huggingface_hub import HfApi, hf_hub_download, snapshot_download

    commit = hub.create(NAME, FILES)
    hub.create("datasets/squad", {"a.txt": b"a"})
    hub.create("Org/Rows", {"config.json": b"{}"})
    api = HfApi(endpoint=hub.endpoint, token=False)
    info = api.dataset_info("Org/Rows", files_metadata=True)
    assert (info.id, info.sha) == ("Org/Rows", commit)
    assert {file.rfilename: file.size for file in info.siblings} == {
        path: len(data) for path, data in FILES.items()
    }
    assert [each.id for each in api.list_datasets()] == ["Org/Rows", "squad"]
    assert [each.id for each in api.list_models()] == ["Org/Rows"]
    assert api.model_info("Org/Rows").sha != commit
    options = {"endpoint": hub.endpoint, "token": False, "repo_type": "dataset"}
    folder = snapshot_download("Org/Rows", cache_dir=tmp_path / "hub", **options)
    assert files_below(Path(folder)) == FILES
    alone = hf_hub_download("squad", "a.txt", cache_dir=tmp_path / "hub", **options)
    assert Path(alone).read_bytes() == b"a"
    hub.rename(NAME, "datasets/Org/Lines")
    assert api.dataset_info("Org/Rows").id == "Org/Lines"


def test_a_dataset_is_mirrored_and_restored(hub, held, archive, cli, restores, mirror):
    (seal,) = seals(archive)
    assert seal.relative_to(archive).parent.as_posix() == "snapshots/huggingface.dataset/org/rows"
    restores(archive, FILES, "datasets/org/rows")
    shown = cli("show", "--json", "--files", "-C", archive, f"huggingface:{NAME}")
    record = shown.only("snapshot")
    assert (record["repository"], record["hub"], record["type"]) == (NAME, "huggingface", "dataset")
    assert record["source"]["licence"] == "mit"
    assert {file["path"] for file in shown.kinds("file")} == FILES.keys()
    text = cli("show", "--files", "-C", archive, NAME).out
    assert r"data/dir?x#y/odd\n%41\\name.txt" in text
    assert cli("restore", "-C", archive, "Org/Rows", archive / "x").code == 2, "no such model"
    before = len(hub.requests)
    assert mirror(NAME).code == 0, "nothing new"
    assert not [each for each in list(hub.requests)[before:] if each.route == "resolve"]


def test_a_dataset_that_has_moved_or_is_gone(hub, held, mirror):
    hub.rename(NAME, "datasets/Org/Lines")
    moved = mirror(NAME)
    assert moved.code == 23
    assert "datasets/Org/Rows is called datasets/Org/Lines now" in moved.err
    assert mirror("datasets/Org/Nothing").code == 23


def test_hub_clients_find_a_restored_dataset_offline(held, archive, cli, tmp_path):
    result = cli("restore", "-C", archive, NAME, tmp_path / "hub", "--layout", "hf-cache")
    assert result.code == 0
    ran = subprocess.run(
        [sys.executable, "-c", CLIENT, "Org/Rows"],
        env=os.environ | {"HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert files_below(Path(ran.stdout.strip())) == FILES


def test_a_dataset_is_imported_from_a_clients_cache(hub, held, archive, cli, tmp_path, restores):
    from huggingface_hub import snapshot_download

    cache = tmp_path / "cache"
    snapshot_download(
        "Org/Rows", repo_type="dataset", cache_dir=cache, endpoint=hub.endpoint, token=False
    )
    fresh = tmp_path / "fresh"
    assert cli("init", "-C", fresh).code == 0
    for words in ((cache,), (cache / "datasets--Org--Rows",), (cache, "--as", NAME)):
        assert cli("import", "-C", fresh, *words, "--min-free", "0B").code == 0
    (record,) = cli("list", "--json", "-C", fresh).kinds("snapshot")
    assert (record["repository"], record["revision"]) == (NAME, held)
    assert (record["hub"], record["type"]) == ("huggingface", "dataset")
    restores(fresh, FILES, NAME)
    assert cli("import", "-C", fresh, cache, "--as", "Org/Rows").code == 23


@pytest.mark.parametrize("words", [(), ("--level", "structure"), ("--all",)])
def test_a_dataset_has_no_model_to_run(held, archive, cli, words):
    result = cli("smoke-test", "-C", archive, NAME, *words)
    assert result.code == 2
    assert "is a dataset: it has no model to run" in result.err
    out = archive.parent / "out"
    assert cli("restore", "-C", archive, NAME, out, "--smoke-test").code == 2
    assert not out.exists()
    nothing = cli("audit", "--json", "-C", archive, "--level", "smoke")
    assert nothing.code == 0


@pytest.mark.parametrize("name", ["folder:Org/Name", "elsewhere:Org/Name", "folder:datasets/O/N"])
def test_what_is_on_no_hub_that_is_fetched_from(hub, archive, mirror, name):
    result = mirror(name)
    assert result.code == 2
    assert f"{name} is on no hub that this version fetches from" in result.err
    assert f"archiver import -C {archive} DIR --as {name}" in result.err
    assert len(hub.requests) == 0


def test_a_plan_mirrors_models_and_datasets(hub, archive, cli, tmp_path, waits):
    hub.create(NAME, FILES)
    plan = tmp_path / "p.toml"
    plan.write_text(
        f'[plan]\nname = "p"\ncollection = "Org/all"\n[[repository]]\nname = "huggingface:{NAME}"\n'
    )
    hub.collection("Org/all", [NAME, "Org/Rows"])
    result = cli("sync", "--json", "-C", archive, plan, "--check-collection", "--min-free", "0B")
    assert result.code == 0, result
    compared = result.only("collection")
    assert (compared["new"], compared["absent"]) == (["Org/Rows"], [])
    assert NAME in cli("status", "--json", "-C", archive).out
    plan.write_text('[plan]\nname = "p"\n[[repository]]\nname = "folder:O/N"\n')
    refused = cli("plan", "check", "-C", archive, plan)
    assert refused.code == 2
    assert "models and datasets of Hugging Face and ModelScope" in refused.err
