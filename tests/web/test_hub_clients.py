"""The clients that people have, against ``archiver serve``: what they get is what was archived."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import HfApi, HfFileSystem, get_hf_file_metadata, hf_hub_url
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from kit.repository import WEIGHTS, files_below
from servedkit import DATASET, LARGE, MODEL, PART, large


@pytest.fixture
def api(server) -> HfApi:
    return HfApi(endpoint=server.endpoint, token=False)


def _downloaded(folder: str) -> dict[str, bytes]:
    return {path: data for path, data in files_below(Path(folder)).items() if ".cache/" not in path}


@pytest.mark.parametrize(
    ("name", "number"), [(None, 2), ("main", 2), ("v1.0", 0), ("dev", 1), ("refs/tags/v1.0", 0)]
)
def test_a_snapshot_comes_as_it_was_archived_by_every_name(api, history, tmp_path, name, number):
    got = api.snapshot_download(MODEL, revision=name, local_dir=tmp_path)
    assert _downloaded(got) == history.model[history.commits[number]]


def test_every_commit_can_be_had(api, history, tmp_path):
    for commit, files in history.model.items():
        got = api.snapshot_download(MODEL, revision=commit, cache_dir=tmp_path)
        assert files_below(Path(got)) == files
        assert Path(got).name == commit


def test_a_cache_is_laid_out_and_verified(api, history, tmp_path):
    api.snapshot_download(MODEL, cache_dir=tmp_path)
    found = api.verify_repo_checksums(MODEL, cache_dir=tmp_path)
    assert (found.mismatches, found.missing_paths, found.extra_paths) == ([], [], [])
    assert found.checked_count == len(history.model[history.commits[2]])


def test_a_dataset_comes_as_it_was_archived(api, history, tmp_path):
    got = api.snapshot_download(DATASET, repo_type="dataset", local_dir=tmp_path)
    assert _downloaded(got) == history.data
    assert api.dataset_info(DATASET).id == DATASET


def test_a_large_file_comes_whole(api, tmp_path):
    got = api.hf_hub_download("org/large", LARGE, local_dir=tmp_path)
    assert Path(got).read_bytes() == large()[LARGE]


def test_what_a_model_is(api, history):
    info = api.model_info(MODEL, files_metadata=True)
    files = history.model[history.commits[2]]
    assert (info.id, info.sha, info.author) == (MODEL, history.commits[2], "org")
    assert info.card_data.license == "mit"
    assert {"license:mit", "tiny", "en"} <= set(info.tags)
    assert info.last_modified.tzinfo
    told = {each.rfilename: each for each in info.siblings}
    assert {path: each.size for path, each in told.items()} == {
        path: len(data) for path, data in files.items()
    }
    assert told[WEIGHTS].lfs.sha256 == hashlib.sha256(files[WEIGHTS]).hexdigest()
    assert told["config.json"].lfs is None
    assert api.model_info(MODEL, revision="v1.0").sha == history.commits[0]
    assert api.model_info(MODEL, expand=["sha"]).sha == history.commits[2]


def test_the_tree(api, history):
    every = {each.path: each for each in api.list_repo_tree(MODEL, recursive=True)}
    files = history.model[history.commits[2]]
    assert {path for path, each in every.items() if hasattr(each, "blob_id")} == set(files)
    assert {"sub", "sub/folder"} <= set(every)
    top = {each.path for each in api.list_repo_tree(MODEL)}
    assert "sub" in top
    assert "sub/folder" not in top
    below = [each.path for each in api.list_repo_tree(MODEL, "sub", recursive=True)]
    assert below == ["sub/folder", "sub/folder/notes.txt"]
    (note,) = api.list_repo_tree(MODEL, "sub/folder", expand=True)
    assert note.last_commit.oid == history.commits[2]
    with pytest.raises(EntryNotFoundError):
        list(api.list_repo_tree(MODEL, "nowhere"))


def test_lists_come_in_pages(api, server, history):
    answer = server.ask(f"/api/models/{MODEL}/tree/main?recursive=True&limit=4")
    assert 'rel="next"' in answer.headers["link"]
    count = sum(1 for _ in api.list_models(limit=2))
    assert count == 2
    seen, path = [], "/api/models?limit=1"
    while path:
        answer = server.ask(path)
        seen += [each["id"] for each in json.loads(answer.body)]
        link = answer.headers.get("link", "")
        path = link.partition(">")[0].removeprefix(f"<{server.endpoint}") if link else ""
    assert seen == [MODEL.replace("model", each) for each in ("large", "model", "part")]


def test_what_is_held_can_be_searched(api):
    assert {each.id for each in api.list_models()} == {MODEL, PART, "org/large"}
    assert [each.id for each in api.list_models(search="MOD")] == [MODEL]
    assert [each.id for each in api.list_models(author="nobody")] == []
    assert [each.id for each in api.list_models(filter="license:mit")] == [MODEL]
    assert [each.id for each in api.list_models(sort="last_modified", full=True)]
    assert [each.id for each in api.list_datasets()] == [DATASET]


def test_branches_tags_and_commits(api, history):
    refs = api.list_repo_refs(MODEL)
    first, second, third = history.commits
    assert {each.name: each.target_commit for each in refs.branches} == {
        "main": third,
        "dev": second,
    }
    assert {each.name: each.target_commit for each in refs.tags} == {"v1.0": first}
    assert {each.commit_id for each in api.list_repo_commits(MODEL)} == set(history.commits)


def test_what_exists(api, history):
    assert api.repo_exists(MODEL)
    assert not api.repo_exists("org/nothing")
    assert api.file_exists(MODEL, WEIGHTS)
    assert not api.file_exists(MODEL, "nothing.txt")
    assert api.revision_exists(MODEL, "dev")
    assert api.revision_exists(MODEL, history.commits[0][:10])
    assert not api.revision_exists(MODEL, "f" * 40)
    api.auth_check(MODEL)
    with pytest.raises(RepositoryNotFoundError):
        api.auth_check("org/nothing")


def test_paths(api, history):
    wanted = [WEIGHTS, "sub", "sub/folder", "nothing", "config.json"]
    found = api.get_paths_info(MODEL, wanted, expand=True)
    assert [each.path for each in found] == [WEIGHTS, "sub", "sub/folder", "config.json"]
    assert found[0].last_commit.oid == history.commits[2]


def test_what_is_told_of_a_file(api, server, history):
    data = history.model[history.commits[2]]
    told = get_hf_file_metadata(hf_hub_url(MODEL, WEIGHTS, endpoint=server.endpoint), token=False)
    assert told.etag == hashlib.sha256(data[WEIGHTS]).hexdigest()
    assert (told.commit_hash, told.size) == (history.commits[2], len(data[WEIGHTS]))
    assert told.xet_file_data is None
    small = data["config.json"]
    blob = hashlib.sha1(b"blob %d\0" % len(small) + small).hexdigest()
    url = hf_hub_url(MODEL, "config.json", endpoint=server.endpoint)
    assert get_hf_file_metadata(url, token=False).etag == blob


def test_what_is_not_held_is_told_apart(api):
    with pytest.raises(RepositoryNotFoundError, match="not in this archive"):
        api.model_info("org/nothing")
    with pytest.raises(RepositoryNotFoundError, match="holds a dataset of this name"):
        api.model_info(DATASET)
    with pytest.raises(RevisionNotFoundError, match="not in this archive"):
        api.model_info(MODEL, revision="nothing")
    with pytest.raises(EntryNotFoundError, match="not in org/model@"):
        api.hf_hub_download(MODEL, "nothing.txt")


def test_of_a_part_there_is_what_was_archived(api, tmp_path):
    got = _downloaded(api.snapshot_download(PART, local_dir=tmp_path))
    assert set(got) == {"config.json", "tokenizer.json"}
    with pytest.raises(EntryNotFoundError, match="Only some files"):
        api.hf_hub_download(PART, WEIGHTS)


def test_headers_of_weights(api, history):
    assert api.get_safetensors_metadata(MODEL).parameter_count["BF16"] == 64 * 128 + 32 * 128 + 128


def test_a_filesystem(server, history):
    files = HfFileSystem(endpoint=server.endpoint, token=False, skip_instance_cache=True)
    data = history.model[history.commits[0]]
    with files.open(f"{MODEL}@v1.0/{WEIGHTS}", "rb", block_size=1000) as file:
        assert file.seek(5000) == 5000
        assert file.read(3000) == data[WEIGHTS][5000:8000]
        file.seek(-10, 2)
        assert file.read() == data[WEIGHTS][-10:]
    assert files.glob(f"{MODEL}/**/*.txt")
    assert files.cat_file(f"datasets/{DATASET}/README.md") == b"# Data\n"
    assert files.isdir(f"{MODEL}/sub")
    assert not files.exists(f"{MODEL}/none")


def test_collections(api, history):
    (found,) = [each for each in api.list_collections(owner="org") if each.owner == "org"]
    assert {each.item_id for each in found.items} == {MODEL, PART, "org/large", DATASET}
    assert api.get_collection(found.slug).title == found.title
    (plan,) = api.list_collections(owner="archive")
    assert plan.title == "The plan tiny"
    assert [each.item_id for each in api.get_collection(plan.slug).items] == ["org/large", MODEL]
    assert [each.slug for each in api.list_collections(item="models/org/part")] == [found.slug]
    with pytest.raises(HfHubHTTPError):
        api.get_collection("org/other-0123456789")


def test_nobody_is_asked_who_they_are(api):
    with pytest.raises(HfHubHTTPError):
        api.whoami(token="hf_any")


def _hf(server, home: Path, *words: str) -> subprocess.CompletedProcess:
    env = os.environ | {"HF_ENDPOINT": server.endpoint, "HF_HOME": str(home)}
    command = [str(Path(sys.executable).parent / "hf"), *words]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


def test_the_command_of_the_hub(server, history, tmp_path):
    done = _hf(server, tmp_path, "download", MODEL)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "hub/models--org--model/snapshots" / history.commits[2]
    assert files_below(folder) == history.model[history.commits[2]]
    verified = _hf(server, tmp_path, "cache", "verify", MODEL)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    # What it would say of a byte that is wrong:
    weights = (folder / WEIGHTS).resolve()
    weights.chmod(0o644)
    weights.write_bytes(bytes(weights.stat().st_size))
    assert _hf(server, tmp_path, "cache", "verify", MODEL).returncode != 0
