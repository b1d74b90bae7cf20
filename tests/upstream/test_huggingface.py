"""The hub's listing, its refusals and the token, over real HTTP."""

from __future__ import annotations

import hashlib

import pytest
from upstreamkit import REPO, TOKEN, WEIGHTS, fetch

from archiver.digest import git_blob_hasher
from archiver.errors import (
    AccessError,
    ExitCode,
    HostileNameError,
    MismatchError,
    NetworkError,
    UpstreamGoneError,
    UsageError,
)
from archiver.loopback.faults import Fault
from archiver.upstream.huggingface.client import HuggingFace


def test_a_listing_is_pinned_and_has_upstreams_claims(hub, model, connect, content):
    listing = connect().list(REPO)
    assert (listing.upstream, listing.endpoint) == ("huggingface", hub.endpoint)
    assert (listing.repository, listing.revision, listing.name) == (REPO, model, "main")
    assert (listing.committed, listing.licence) == ("2026-01-01T00:00:01Z", "apache-2.0")
    assert listing.card == {"license": "apache-2.0", "tags": ["a"]}
    assert len(listing.id) == 24
    assert [file.path for file in listing.files] == ["config.json", "empty", WEIGHTS]
    weights, config = listing.files[2], listing.files[0]
    assert weights.lfs
    assert weights.size == len(content)
    assert weights.sha256 == hashlib.sha256(content).hexdigest()
    blob = git_blob_hasher(2)
    blob.update(b"{}")
    assert (config.lfs, config.sha256, config.oid) == (False, "", blob.hexdigest())


def test_a_tree_of_several_pages_is_listed_whole(hub, connect):
    hub.page_size = 3
    hub.create(REPO, {f"d/{n:02}.json": b"{}" for n in range(10)})
    assert len(connect().list(REPO).files) == 10
    assert len(hub.requests.of(route="tree")) == 4
    assert {record.token for record in hub.requests} == {TOKEN}


def test_a_branch_a_tag_and_a_commit_can_be_asked_for(hub, model, connect):
    hub.branch(REPO, "feature/x y")
    hub.tag(REPO, "v1.0")
    newer = hub.commit(REPO, {"new.txt": b"new"})
    upstream = connect()
    assert upstream.list(REPO).revision == newer
    for name in ("feature/x y", "v1.0", model):
        listing = upstream.list(REPO, name)
        assert (listing.revision, listing.name) == (model, name)
        assert "new.txt" not in {file.path for file in listing.files}


def test_an_unknown_revision_is_named(model, connect):
    with pytest.raises(UpstreamGoneError, match=r"Org/Model has no revision nightly\\x1b"):
        connect().list(REPO, "nightly\x1b")


def test_a_missing_repository_may_be_private(hub, connect):
    for token in (TOKEN, ""):
        with pytest.raises(UpstreamGoneError, match="Nobody/Nothing") as caught:
            connect(token or None).list("Nobody/Nothing")
        assert "HF_TOKEN" in caught.value.hint
    assert {record.token for record in hub.requests} == {TOKEN, ""}


def test_a_private_repository_opens_with_its_token(hub, connect, read):
    hub.create("Org/Secret", {"a.txt": b"x", "b.bin": b"y"}, private=True)
    hub.tokens = {TOKEN: ["Org/Secret"]}
    assert fetch(connect(), read, "b.bin", repository="Org/Secret") == b"y"
    with pytest.raises(UpstreamGoneError):
        connect(None).list("Org/Secret")


def test_a_token_that_the_hub_does_not_know_is_told(hub, model, connect):
    hub.tokens = {"another": []}
    with pytest.raises(AccessError, match="token"):
        connect().list(REPO)


@pytest.mark.parametrize("kind", ["gated", "masked"])
def test_a_gated_repository_names_the_page_to_go_to(hub, connect, kind):
    hub.create("Org/Gated", {"m.safetensors": b"x"}, **{kind: True})
    with pytest.raises(AccessError, match="gated") as caught:
        connect(None).list("Org/Gated")
    assert f"{hub.endpoint}/Org/Gated" in caught.value.hint
    assert "HF_TOKEN" in caught.value.hint


def test_a_gated_file_is_refused_too(hub, connect, read):
    hub.create("Org/Gated", {"a.txt": b"x"}, gated=True)
    for token in (None, TOKEN):
        with pytest.raises(AccessError, match="gated"):
            fetch(connect(token), read, "a.txt", repository="Org/Gated")
    hub.tokens = {TOKEN: ["Org/Gated"]}
    assert fetch(connect(), read, "a.txt", repository="Org/Gated") == b"x"


def test_a_disabled_repository_is_told_although_its_info_is_200(hub, model, connect, read):
    listing = connect().list(REPO)
    hub.disable(REPO)
    with pytest.raises(AccessError, match="disabled"):
        connect().list(REPO)
    with (
        connect().open(listing, listing.files[0], 0) as stream,
        pytest.raises(AccessError) as caught,
    ):
        read(stream)
    assert "disabled" in caught.value.message


def test_a_renamed_repository_is_not_taken_for_the_old_one(hub, model, connect):
    hub.rename(REPO, "Other/Model2")
    with pytest.raises(UpstreamGoneError, match="Org/Model is called Other/Model2 now") as caught:
        connect().list(REPO)
    assert "Mirror Other/Model2" in caught.value.hint


def test_a_new_spelling_of_the_same_name_is_taken_over(hub, model, connect):
    hub.rename(REPO, "ORG/model")
    assert connect().list(REPO).repository == "ORG/model"


@pytest.mark.parametrize("path", ["../up", "/etc/x", "a/../b", "a/../\x1b[2J", "a//b"])
def test_hostile_paths_are_refused(hub, connect, path):
    hub.create(REPO, {path: b"x", "fine": b"y"})
    with pytest.raises(HostileNameError) as caught:
        connect().list(REPO)
    assert "\x1b" not in caught.value.message


def test_a_path_that_is_listed_twice_is_refused(hub, model, connect):
    hub.list_also(REPO, {"type": "file", "path": "config.json", "size": 1, "oid": "0" * 40})
    with pytest.raises(HostileNameError, match="listed twice"):
        connect().list(REPO)


def test_a_twin_by_case_is_listed(hub, model, connect):
    hub.list_also(REPO, {"type": "file", "path": "CONFIG.json", "size": 1, "oid": "0" * 40})
    assert {"CONFIG.json", "config.json"} <= {one.path for one in connect().list(REPO).files}


@pytest.mark.parametrize(
    "claim",
    [
        {"oid": "not an oid"},
        {"lfs": {"oid": "abc", "size": 1, "pointerSize": 1}},
        {"lfs": {"size": 1}},
        {"lfs": {"oid": "0" * 64, "size": -1}},
        {"lfs": {"oid": "0" * 64, "size": "12"}},
        {"lfs": [], "size": 1.5},
    ],
)
def test_a_file_that_could_not_be_checked_is_refused(hub, model, connect, claim):
    hub.claim(REPO, WEIGHTS, **claim)
    with pytest.raises(MismatchError):
        connect().list(REPO)


@pytest.mark.parametrize("route", ["info", "tree"])
def test_the_listing_is_retried(hub, model, connect, slept, route):
    hub.faults.add(Fault("status", route=route, status=503, times=2))
    hub.faults.add(Fault("rate_limit", route=route, seconds=55))
    assert connect().list(REPO).revision == model
    assert slept == [0.5, 1.0, 55.0]


@pytest.mark.parametrize("kind", ["drop", "reset"])
def test_a_listing_that_breaks_off_is_asked_for_again(hub, model, connect, kind):
    hub.faults.add(Fault(kind, route="tree", after=20))
    assert connect().list(REPO).revision == model


def test_giving_up_is_bounded_and_tells(hub, model, connect, slept):
    fault = hub.faults.add(Fault("status", route="info", times=None))
    with pytest.raises(NetworkError, match="HTTP 503, 4 times in a row") as caught:
        connect().list(REPO)
    assert caught.value.exit_code == ExitCode.NETWORK
    assert fault.hits == 4
    assert len(slept) == 3


def test_a_hub_that_is_not_there_is_a_network_error(hub, connect, slept):
    hub.stop()
    with pytest.raises(NetworkError, match="does not answer for Org/Model"):
        connect().list(REPO)
    assert len(slept) == 3
    hub.start()


def test_a_silent_hub_is_a_network_error(hub, model, connect):
    hub.faults.add(Fault("stall", route="info", after=0, seconds=60, times=None))
    with pytest.raises(NetworkError, match="silent"):
        connect(timeout=0.1, attempts=2).list(REPO)


def test_offline_nothing_is_sent(hub, model, connect, monkeypatch, read):
    listing = connect().list(REPO)
    hub.requests.clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(NetworkError, match="HF_HUB_OFFLINE is set"):
        connect().list(REPO)
    with connect().open(listing, listing.files[0], 0) as stream, pytest.raises(NetworkError):
        read(stream)
    assert len(hub.requests) == 0


def test_the_endpoint_and_the_token_come_from_the_environment(hub, model, monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint + "/")
    stored = tmp_path / "token"
    stored.write_text("hf_stored\n")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(stored))
    assert HuggingFace().endpoint == hub.endpoint
    HuggingFace().list(REPO)
    monkeypatch.setenv("HF_TOKEN", "hf_env")
    HuggingFace().list(REPO)
    HuggingFace("hf_given").list(REPO)
    tokens = [record.token for record in hub.requests.of(route="info")]
    assert tokens == ["hf_stored", "hf_env", "hf_given"]


@pytest.mark.parametrize(
    "endpoint",
    [
        *("ftp://x", "huggingface.co", "http://", "http://me:pw@hub", "http://hub/?a=b"),
        *("http://[::1/x", "http://a..b/", "http://h:99999", "http://h:x", "http://\udcff"),
    ],
)
def test_an_endpoint_that_is_none_is_a_usage_error(endpoint):
    with pytest.raises(UsageError) as caught:
        HuggingFace(endpoint=endpoint)
    assert "pw" not in caught.value.message.replace("password", "")


@pytest.mark.parametrize("token", ["a\nb", "tökén"])
def test_a_token_that_is_none_is_a_usage_error_and_not_shown(hub, model, connect, token):
    with pytest.raises(UsageError) as caught:
        connect(token).list(REPO)
    assert token not in str(caught.value)
    assert len(hub.requests) == 0


def test_the_token_follows_no_page_to_another_origin(connect, hub):
    session = connect()._session
    here = f"{hub.endpoint}/api/models/a/b/tree/c"
    own = f"{hub.endpoint}/api/models/a/b/tree/c?cursor=2"
    for link in (own, "/api/models/a/b/tree/c?cursor=2", own.replace(hub.endpoint, "https://evil")):
        assert session._next_page(here, link) == own
    evil = hub.endpoint + ".evil.org"
    assert session._next_page(here, evil + "/api/x").startswith(hub.endpoint + "/api/x")
    for link in (evil + "/x", "/x", "../../../../../../login?next=/api/"):
        with pytest.raises(NetworkError, match="no part of its API"):
            session._next_page(here, link)


def test_a_collection_lists_its_models(hub, connect):
    hub.collection("Org/things", ["Org/B", "Org/A"])
    assert connect().collection("Org/things") == ("Org/B", "Org/A")
    with pytest.raises(UpstreamGoneError, match="no collection Org/none"):
        connect().collection("Org/none")
    with pytest.raises(UsageError):
        connect().collection("../x")


def test_a_collection_that_names_no_repository_is_refused(hub, connect):
    hub.collection("Org/things", ["Org/A", "../../etc"])
    with pytest.raises(HostileNameError):
        connect().collection("Org/things")
