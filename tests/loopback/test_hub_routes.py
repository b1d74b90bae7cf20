from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path
from urllib.parse import quote

import pytest
from hubkit import FILES, WEIGHTS
from huggingface_hub import HfApi
from huggingface_hub.errors import (
    DisabledRepoError,
    GatedRepoError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile, RepoFolder

from archiver.errors import UsageError
from archiver.loopback.hub import Hub

TOKENS = {"hf_open": {"org/tiny"}, "hf_other": {"org/else"}}
HOSTILE = {
    "../outside": b"1",
    "a/../../b": b"2",
    "/etc/passwd": b"3",
    "nul\x00inside": b"4",
    "back\\slash": b"5",
    "Case.txt": b"6",
    "case.txt": b"7",
    "caf\u00e9": b"8",
    "cafe\u0301": b"9",
    "./dot": b"a",
    "double//slash": b"b",
    "trailing/": b"c",
    "new\nline\x1b[31m": b"d",
    "percent%2e?query#fragment&more": b"e",
    "\u202egnp.exe": b"f",
    " ": b"g",
}


def git_oid(data: bytes) -> str:
    run = subprocess.run(
        ["git", "hash-object", "--stdin"], input=data, capture_output=True, check=True
    )
    return run.stdout.decode().strip()


def by_path(entries):
    return {entry.path: entry for entry in entries}


def test_info_names_commit_and_card(hub, tiny, api):
    info = api.model_info(tiny)
    assert (info.id, info.author, info.private, info.gated) == (tiny, "org", False, False)
    assert info.card_data["license"] == "apache-2.0"
    assert "license:apache-2.0" in info.tags
    assert {s.rfilename for s in info.siblings} == set(FILES)
    assert api.model_info(tiny, revision=info.sha).sha == info.sha


def test_info_with_blobs_has_sizes_and_digests(tiny, api):
    info = api.model_info(tiny, files_metadata=True)
    files = {s.rfilename: s for s in info.siblings}
    assert files["config.json"].blob_id == git_oid(FILES["config.json"])
    assert files["model.safetensors"].lfs.sha256 == hashlib.sha256(WEIGHTS).hexdigest()


def test_tree_has_the_digests_that_git_gives(tiny, api):
    entries = by_path(api.list_repo_tree(tiny, recursive=True))
    plain, large = entries["README.md"], entries["model.safetensors"]
    sha256 = hashlib.sha256(WEIGHTS).hexdigest()
    text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {len(WEIGHTS)}\n"
    assert (plain.size, plain.blob_id, plain.lfs) == (2100, git_oid(FILES["README.md"]), None)
    assert (large.size, large.blob_id) == (len(WEIGHTS), git_oid(text.encode()))
    assert (large.lfs.sha256, large.lfs.pointer_size) == (sha256, len(text))
    assert isinstance(entries["onnx/deep"], RepoFolder)


def test_tree_of_a_folder_and_of_one_level(tiny, api):
    top = by_path(api.list_repo_tree(tiny))
    assert set(top) == {"README.md", "config.json", "model.safetensors", "onnx"}
    below = by_path(api.list_repo_tree(tiny, "onnx"))
    assert set(below) == {"onnx/config.json", "onnx/deep"}
    deep = by_path(api.list_repo_tree(tiny, "onnx", recursive=True, expand=True))
    assert deep["onnx/deep/model.onnx"].last_commit.title == "initial commit"
    with pytest.raises(RemoteEntryNotFoundError):
        list(api.list_repo_tree(tiny, "nowhere"))


def test_lists_come_in_pages(hub, tiny, api):
    hub.page_size = 2
    for n in range(4):
        hub.commit(tiny, {f"{n}.txt": b"x"})
        hub.create(f"other/{n}", {})
    assert len(list(api.list_repo_tree(tiny, recursive=True, expand=True))) == 11
    assert len(api.list_repo_commits(tiny)) == 5
    assert [m.id for m in api.list_models(author="other")] == [f"other/{n}" for n in range(4)]
    assert len(hub.requests.of(route="tree")) == 6


def test_paths_info(tiny, api):
    found = api.get_paths_info(tiny, ["config.json", "onnx", "absent"], expand=True)
    assert [type(entry) for entry in found] == [RepoFile, RepoFolder]


def test_commits_branches_and_tags(hub, tiny, api):
    first = api.model_info(tiny).sha
    hub.tag(tiny, "v1")
    second = hub.commit(tiny, {"config.json": None, "new.txt": b"new"}, title="second")
    hub.branch(tiny, "old/one", "v1")
    refs = api.list_repo_refs(tiny)
    assert {b.name: b.target_commit for b in refs.branches} == {"main": second, "old/one": first}
    assert [(t.ref, t.target_commit) for t in refs.tags] == [("refs/tags/v1", first)]
    newest, oldest = api.list_repo_commits(tiny)
    assert (newest.commit_id, oldest.commit_id) == (second, first)
    assert (newest.title, newest.created_at > oldest.created_at) == ("second", True)
    assert "config.json" not in by_path(api.list_repo_tree(tiny))
    for revision in ("v1", "old/one", "refs/heads/old/one", first):
        assert "config.json" in by_path(api.list_repo_tree(tiny, revision=revision))


def test_commit_ids_are_the_same_in_every_run_and_follow_content(tmp_path):
    (tmp_path / "f").write_bytes(b"same")
    build = lambda data: Hub().create("a/b", {"f": data})  # noqa: E731
    assert build(b"same") == build(b"same") == build(tmp_path / "f")
    assert build(b"same") != build(b"Same")
    (tmp_path / "f").write_bytes(WEIGHTS)
    assert build(WEIGHTS) == build(tmp_path / "f")
    assert len({build(WEIGHTS), build(b"x" + WEIGHTS[1:]), build(WEIGHTS[:-1] + b"x")}) == 3
    hub = Hub()
    hub.create("a/b", {"f": b"1"})
    assert hub.commit("a/b", {"f": b"1"}) != hub.commit("a/b", {"f": b"1"})


def test_force_push_forgets_the_old_history(hub, tiny, api):
    old = api.model_info(tiny).sha
    hub.force_push(tiny, {"only.txt": b"x"})
    assert len(api.list_repo_commits(tiny)) == 1
    with pytest.raises(RevisionNotFoundError):
        api.model_info(tiny, revision=old)


def test_force_push_keeps_what_a_tag_holds(hub, tiny, api):
    hub.tag(tiny, "kept")
    hub.force_push(tiny, {"only.txt": b"x"})
    assert "config.json" in by_path(api.list_repo_tree(tiny, revision="kept"))


def test_rename_redirects_and_keeps_the_internal_id(hub, tiny, api, ask, tmp_path):
    before = json.loads(ask(f"/api/models/{tiny}").body)["_id"]
    hub.rename(tiny, "new-org/tiny")
    info = api.model_info(tiny)
    assert info.id == "new-org/tiny"
    assert json.loads(ask("/api/models/new-org/tiny").body)["_id"] == before
    moved = ask(f"/api/models/{tiny}/tree/main?recursive=True")
    assert moved.status == 307
    assert moved.headers["Location"] == "/api/models/new-org/tiny/tree/main?recursive=True"
    path = api.hf_hub_download(tiny, "model.safetensors", cache_dir=tmp_path)
    assert Path(path).read_bytes() == WEIGHTS


def test_a_new_repository_may_take_an_old_name(hub, tiny, api):
    hub.rename(tiny, "new-org/tiny")
    hub.create(tiny, {"other.txt": b"x"})
    assert api.model_info(tiny).id == tiny


def test_deleted_and_missing_repositories_look_alike(hub, tiny, api, ask):
    hub.delete(tiny)
    for name in (tiny, "a/b"):
        answer = ask(f"/api/models/{name}")
        assert (answer.status, answer.headers["X-Error-Code"]) == (401, None)
        with pytest.raises(RepositoryNotFoundError):
            api.model_info(name, token="hf_any")


def test_disabled_repository_is_listed_but_closed(hub, tiny, api):
    hub.disable(tiny)
    assert api.model_info(tiny).disabled
    with pytest.raises(DisabledRepoError):
        list(api.list_repo_tree(tiny))
    with pytest.raises(DisabledRepoError):
        api.get_hf_file_metadata(url=f"{api.endpoint}/{tiny}/resolve/main/config.json")


def test_missing_revision_and_file(tiny, api):
    with pytest.raises(RevisionNotFoundError):
        api.model_info(tiny, revision="absent")
    with pytest.raises(RemoteEntryNotFoundError):
        api.get_hf_file_metadata(url=f"{api.endpoint}/{tiny}/resolve/main/absent")


def test_an_id_without_organisation(hub, api):
    sha = hub.create("gpt2", {"config.json": b"{}", "pytorch_model.bin": b"weights"})
    info = api.model_info("gpt2", revision="main")
    assert (info.sha, info.author) == (sha, None)
    assert len(list(api.list_repo_tree("gpt2"))) == 2
    assert len(api.list_repo_refs("gpt2").branches) == 1
    assert len(api.list_repo_commits("gpt2")) == 1
    assert api.file_exists("gpt2", "pytorch_model.bin")


def test_names_that_are_also_verbs(hub, api):
    for name in ("org/tree", "org/revision", "org/commits"):
        hub.create(name, {"f.txt": b"x"})
        assert api.model_info(name).id == name
        assert api.model_info(name, revision="main").id == name
        assert len(list(api.list_repo_tree(name, recursive=True))) == 1
        assert len(api.list_repo_commits(name)) == len(api.list_repo_refs(name).branches) == 1
        assert api.file_exists(name, "f.txt")


def test_collection(hub, tiny, api):
    hub.collection("org/best-65a1", [tiny, "org/other"], title="Best")
    found = api.get_collection("org/best-65a1")
    assert (found.title, [item.item_id for item in found.items]) == ("Best", [tiny, "org/other"])
    assert {item.item_type for item in found.items} == {"model"}


def test_listing_by_author(hub, tiny, api):
    hub.create("orga/other", {})
    hub.create("org/secret", {}, private=True)
    assert [m.id for m in api.list_models(author="org")] == [tiny]


def test_claims_replace_what_is_listed(hub, tiny, api):
    hub.claim(tiny, "config.json", size=7, oid="0" * 40)
    hub.list_also(tiny, {"type": "file", "path": "config.json", "size": 1, "oid": "1" * 40})
    listed = [e for e in api.list_repo_tree(tiny) if e.path == "config.json"]
    assert sorted((e.size, e.blob_id[0]) for e in listed) == [(1, "1"), (7, "0")]


def test_unknown_address_method_and_repository(hub, ask):
    assert ask("/nothing").status == 404
    assert ask("/api/models/a/b", "DELETE").status == 405
    with pytest.raises(UsageError, match="a/b"):
        hub.commit("a/b", {})


@pytest.fixture
def as_token(hub):
    hub.tokens = TOKENS
    return lambda token: HfApi(endpoint=hub.endpoint, token=token)


def resolve(api):
    return api.get_hf_file_metadata(url=f"{api.endpoint}/org/tiny/resolve/main/config.json")


def test_private_repository_opens_for_its_token(hub, as_token, tmp_path):
    hub.create("org/tiny", FILES, private=True)
    api = as_token("hf_open")
    assert api.model_info("org/tiny").private
    assert resolve(api).size == len(FILES["config.json"])
    assert api.snapshot_download("org/tiny", cache_dir=tmp_path)


CALLS = {
    "info": lambda api: api.model_info("org/tiny"),
    "tree": lambda api: list(api.list_repo_tree("org/tiny")),
    "file": resolve,
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_private_repository_is_hidden_from_others(hub, as_token, call):
    hub.create("org/tiny", FILES, private=True)
    with pytest.raises(RepositoryNotFoundError):
        call(as_token("hf_other"))


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_private_repository_is_a_bare_401_for_the_anonymous(hub, as_token, call):
    # The client calls this RepositoryNotFoundError too, but only on https.
    hub.create("org/tiny", FILES, private=True)
    with pytest.raises(HfHubHTTPError) as refused:
        call(as_token(False))
    assert refused.value.response.status_code == 401
    assert "X-Error-Code" not in refused.value.response.headers


def test_private_repository_stays_hidden_when_it_is_gated_too(hub, as_token):
    hub.create("org/tiny", FILES, private=True, gated=True)
    with pytest.raises(RepositoryNotFoundError):
        as_token("hf_other").model_info("org/tiny")


def test_gated_repository_opens_for_its_token(hub, as_token):
    hub.create("org/tiny", FILES, gated=True)
    api = as_token("hf_open")
    assert resolve(api).size == len(FILES["config.json"])
    listed = {e.path: e for e in api.list_repo_tree("org/tiny")}
    assert "*" not in listed["model.safetensors"].lfs.sha256


@pytest.mark.parametrize(("token", "status"), [(False, 401), ("hf_other", 403)])
def test_gated_repository_shows_its_listing_and_no_bytes(hub, as_token, token, status):
    hub.create("org/tiny", FILES, gated=True)
    api = as_token(token)
    assert api.model_info("org/tiny").gated == "auto"
    listed = {e.path: e for e in api.list_repo_tree("org/tiny")}
    assert listed["model.safetensors"].lfs.sha256 == "*" * 64
    with pytest.raises(GatedRepoError) as refused:
        resolve(api)
    assert refused.value.response.status_code == status


def test_masked_digests_on_request(hub, api):
    hub.create("org/tiny", FILES, masked=True)
    info = api.model_info("org/tiny", files_metadata=True)
    assert {s.lfs.sha256 for s in info.siblings if s.lfs} == {"*" * 64}


def test_an_unknown_token_is_refused(hub, as_token):
    hub.create("org/tiny", FILES)
    with pytest.raises(HfHubHTTPError) as refused:
        as_token("hf_stale").model_info("org/tiny")
    assert not isinstance(refused.value, RepositoryNotFoundError)
    assert refused.value.response.status_code == 401


def test_any_token_is_nobody_while_the_hub_has_none(hub):
    hub.create("org/tiny", FILES)
    assert HfApi(endpoint=hub.endpoint, token="hf_mine").model_info("org/tiny").id == "org/tiny"


def test_a_renamed_private_repository_stays_with_its_owner(hub, as_token):
    hub.create("org/old", FILES, private=True)
    hub.rename("org/old", "org/tiny")
    assert as_token("hf_open").model_info("org/old").id == "org/tiny"
    with pytest.raises(HfHubHTTPError, match="401"):
        as_token(False).model_info("org/old")


@pytest.fixture
def hostile(hub):
    hub.create("org/tiny", HOSTILE | {f"{name}.bin": data for name, data in HOSTILE.items()})
    return "org/tiny"


def test_hostile_names_are_listed_as_they_are(hostile, ask):
    entries = json.loads(ask(f"/api/models/{hostile}/tree/main?recursive=true").body)
    assert {e["path"] for e in entries if e["type"] == "file"} >= set(HOSTILE)


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_hostile_names_are_served(hub, hostile, ask, name):
    assert ask(f"/org/tiny/resolve/main/{quote(name)}").body == HOSTILE[name]
    link = ask(f"/org/tiny/resolve/main/{quote(name)}.bin")
    assert ask(link.headers["Location"]).body == HOSTILE[name]
    assert hub.requests.of(port="cdn")[-1].file == f"{name}.bin"
