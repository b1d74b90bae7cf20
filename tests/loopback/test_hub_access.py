from __future__ import annotations

import pytest
from hubkit import FILES
from huggingface_hub import HfApi
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

TOKENS = {"hf_open": {"org/tiny"}, "hf_other": {"org/else"}}


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
