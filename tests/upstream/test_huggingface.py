"""The listing, the token and the single pass, over real HTTP."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
from contextlib import contextmanager

import pytest

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
from archiver.loopback import Fault
from archiver.upstream.huggingface import HuggingFace
from archiver.upstream.huggingface.answers import AgainError, Asked
from archiver.upstream.huggingface.listing import pin, remote_files
from archiver.upstream.huggingface.parsing import card_of, licence_of, parse_json, time_of
from archiver.upstream.huggingface.session import Session
from archiver.upstream.huggingface.stream import HubStream
from archiver.upstream.protocol import RemoteFile
from archiver.upstream.retry import RetryPolicy
from archiver.upstream.throttle import Throttle

REPO = "Org/Model"
WEIGHTS = "model.safetensors-00001-of-00001.safetensors"
TOKEN = "hf_not_for_the_cdn"


@pytest.fixture
def model(hub, content):
    card = {"license": "apache-2.0", "tags": ["a"]}
    return hub.create(REPO, {WEIGHTS: content, "config.json": b"{}", "empty": b""}, card=card)


def fetch(upstream, read, path=WEIGHTS, offset=0, repository=REPO):
    listing = upstream.list(repository)
    file = next(file for file in listing.files if file.path == path)
    with upstream.open(listing, file, offset) as stream:
        return read(stream)


def ranges(hub):
    return [record.range for record in hub.requests.of(route="cdn")]


# --- the listing


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
    with connect().open(listing, listing.files[0], 0) as stream, pytest.raises(AccessError):
        read(stream)


def test_a_renamed_repository_is_not_taken_for_the_old_one(hub, model, connect):
    hub.rename(REPO, "Other/Model2")
    with pytest.raises(UpstreamGoneError, match="Org/Model is called Other/Model2 now") as caught:
        connect().list(REPO)
    assert "Mirror Other/Model2" in caught.value.hint


def test_a_new_spelling_of_the_same_name_is_taken_over(hub, model, connect):
    hub.rename(REPO, "ORG/model")
    assert connect().list(REPO).repository == "ORG/model"


@pytest.mark.parametrize("path", ["../up", "/etc/x", "a/../b", "a\\b", "a\x1b[2J", "a//b"])
def test_hostile_paths_are_refused(hub, connect, path):
    hub.create(REPO, {path: b"x", "fine": b"y"})
    with pytest.raises(HostileNameError) as caught:
        connect().list(REPO)
    assert "\x1b" not in caught.value.message


def test_a_path_that_is_listed_twice_is_refused(hub, model, connect):
    hub.list_also(REPO, {"type": "file", "path": "CONFIG.json", "size": 1, "oid": "0" * 40})
    with pytest.raises(HostileNameError, match="CONFIG"):
        connect().list(REPO)


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
    hub.faults.add(Fault("stall", route="info", after=0, seconds=1.0, times=None))
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
    "endpoint", ["ftp://x", "huggingface.co", "http://", "http://me:pw@hub", "http://hub/?a=b"]
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
        assert session._own(here, link) == own
    assert session._own(here, hub.endpoint + ".evil.org/x").startswith(hub.endpoint + "/x")


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


# --- cards


def test_a_cards_numbers_keep_their_own_text():
    info = parse_json(b'{"cardData": {"a": 1.10, "b": NaN, "c": 3, "d": 9007199254740993}}', "x")
    assert card_of(info) == {"a": "1.10", "b": "NaN", "c": 3, "d": "9007199254740993"}


def test_a_card_is_bounded_in_size_depth_and_alphabet():
    deep: list = []
    for _ in range(100):
        deep = [deep]
    card = card_of({"cardData": {"é": "\ud800ok", "deep": deep, "big": "x" * 70_000, "last": 1}})
    assert card["\\xe9"] == "?ok"
    assert str(card["deep"]).count("[") < 20
    assert set(card) == {"\\xe9", "deep"}
    assert card_of({"cardData": "text"}) == card_of({}) == {}


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ({"license": "mit"}, "mit"),
        ({"license": ["mit", "apache-2.0"]}, "mit, apache-2.0"),
        ({"license": "other", "license_name": "qwen"}, "qwen"),
        ({"license": "other"}, "other"),
        ({"license": {"a": 1}}, ""),
        ({}, ""),
    ],
)
def test_licences(card, licence):
    assert licence_of(card) == licence


@pytest.mark.parametrize("text", [None, 5, "yesterday", "9999-99-99", ""])
def test_a_time_that_is_none_is_empty(text):
    assert time_of(text) == ""


def test_times_become_utc():
    assert time_of("2026-02-03T04:05:06.000Z") == "2026-02-03T04:05:06Z"
    assert time_of("2026-02-03T04:05:06+02:00") == "2026-02-03T02:05:06Z"


@pytest.mark.parametrize("body", [b"<html>", b"", b"[" * 100_000, b"\xff\xfe\x00"])
def test_what_is_no_json_is_no_hub(body):
    with pytest.raises(NetworkError):
        parse_json(body, "x")


@pytest.mark.parametrize("info", [[], None, {"id": "a/b"}, {"id": "../b", "sha": "0" * 40}])
def test_nonsense_about_a_repository_is_refused(info):
    with pytest.raises(HostileNameError):
        pin(info, Asked("a/b"))


def test_another_commit_than_the_one_asked_for_is_refused():
    with pytest.raises(UpstreamGoneError, match="commit"):
        pin({"id": "a/b", "sha": "1" * 40}, Asked("a/b", "0" * 40))


@pytest.mark.parametrize("entry", [None, 5, {}, {"type": "file"}, {"type": "file", "path": 3}])
def test_nonsense_in_a_tree_is_refused(entry):
    with pytest.raises(MismatchError):
        remote_files([entry], Asked("a/b"))


# --- the single pass


def test_a_file_comes_in_one_request_and_the_token_stays_home(hub, model, connect, read, content):
    assert fetch(connect(), read) == content
    assert [r.sent for r in hub.requests.of(route="cdn")] == [len(content)]
    assert {r.token for r in hub.requests.of(port="cdn")} == {""}
    assert {r.token for r in hub.requests.of(port="hub")} == {TOKEN}


def test_nothing_is_asked_for_what_is_already_here(hub, model, connect, read, content):
    assert fetch(connect(), read, offset=len(content)) == b""
    assert fetch(connect(), read, "empty") == b""
    assert hub.requests.of(route="resolve") == []


def test_a_new_run_goes_on_where_the_last_one_ended(hub, model, connect, read, content):
    assert fetch(connect(), read, offset=123_457) == content[123_457:]
    assert ranges(hub) == ["bytes=123457-"]
    assert hub.requests.of(route="cdn")[0].sent == len(content) - 123_457


@pytest.mark.parametrize("size", [1_000, 65_536, 5_000_000])
def test_any_buffer_will_do(model, connect, content, read, size):
    upstream = connect()
    listing = upstream.list(REPO)
    with upstream.open(listing, listing.files[2], 0) as stream:
        assert read(stream, size) == content


def test_a_drop_is_resumed_and_no_byte_comes_twice(hub, model, connect, read, content):
    hub.faults.add(Fault("drop", after=100_000, times=3))
    assert fetch(connect(), read) == content
    assert ranges(hub) == ["", "bytes=100000-", "bytes=200000-", "bytes=300000-"]
    assert sum(r.sent for r in hub.requests.of(route="cdn")) == len(content)
    assert {r.token for r in hub.requests.of(port="cdn")} == {""}


def test_a_short_body_with_a_short_length_is_resumed(hub, model, connect, read, content):
    hub.faults.add(Fault("short", route="cdn", count=7_000))
    assert fetch(connect(), read) == content
    assert ranges(hub) == ["", f"bytes={len(content) - 7_000}-"]


@pytest.mark.usefixtures("model")
@pytest.mark.parametrize(
    "fault",
    [
        Fault("reset", after=300_000),
        Fault("stall", after=300_000, seconds=1.0),
        Fault("status", route="cdn", status=503),
        Fault("status", route="resolve", status=500, skip=1),
        Fault("status", route="resolve", status=408, skip=1),
        Fault("rate_limit", route="resolve", seconds=30, skip=1),
        Fault("rate_limit", route="cdn"),
        Fault("expired"),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.route}-{fault.status}",
)
def test_what_may_pass_is_asked_again(hub, connect, read, content, fault):
    first = hub.faults.add(Fault("drop", after=50_000))
    fault = hub.faults.add(dataclasses.replace(fault))
    assert fetch(connect(timeout=0.4), read) == content
    assert (first.hits, fault.hits) == (1, 1)
    assert all(r.range for r in hub.requests.of(route="resolve")[1:])


def test_the_wait_is_as_long_as_the_hub_asks(hub, model, connect, read, slept):
    hub.faults.add(Fault("rate_limit", route="resolve", seconds=30))
    fetch(connect(), read)
    assert slept == [30.0]


def test_a_link_that_expires_in_the_middle_is_replaced(hub, model, connect, read, content):
    hub.link_seconds = -1
    upstream = connect()
    listing = upstream.list(REPO)
    with upstream.open(listing, listing.files[2], 0) as stream:
        hub.faults.add(
            Fault("call", route="resolve", call=lambda: setattr(hub, "link_seconds", 60))
        )
        assert read(stream) == content
    assert [r.status for r in hub.requests.of(route="cdn")] == [403, 200]


def test_a_range_that_was_not_asked_for_is_not_believed(hub, model, connect, read, content):
    hub.faults.add(Fault("drop", after=50_000))
    wrong = hub.faults.add(Fault("content_range", count=1))
    assert fetch(connect(), read) == content
    assert wrong.hits == 1


def test_a_server_that_ignores_ranges_is_read_from_the_start(hub, model, connect, read, content):
    hub.faults.add(Fault("drop", after=50_000))
    hub.faults.add(Fault("ignore_range"))
    assert fetch(connect(), read) == content
    assert [r.status for r in hub.requests.of(route="cdn")] == [200, 200]


def test_ignored_ranges_also_serve_a_new_run(hub, model, connect, read, content):
    hub.faults.add(Fault("ignore_range"))
    assert fetch(connect(), read, offset=700_001) == content[700_001:]


def test_an_endless_breaker_that_brings_new_bytes_is_endured(hub, model, connect, read, content):
    fault = hub.faults.add(Fault("drop", after=40_000, times=20))
    assert fetch(connect(attempts=2), read) == content
    assert fault.hits == 20


def test_giving_up_names_the_file_and_the_byte(hub, model, connect, read):
    hub.faults.add(Fault("drop", after=50_000))
    hub.faults.add(Fault("drop", after=0, times=None))
    with pytest.raises(
        NetworkError, match=rf"{WEIGHTS} of {REPO}.* byte 50,000 of 960,000"
    ) as caught:
        fetch(connect(), read)
    assert "goes on from there" in caught.value.hint
    assert len(ranges(hub)) == 1 + 4


def test_an_expired_link_that_stays_expired_is_given_up(hub, model, connect, read):
    fault = hub.faults.add(Fault("expired", times=None))
    with pytest.raises(NetworkError, match="403"):
        fetch(connect(), read)
    assert fault.hits == 4


@pytest.mark.parametrize("path", [WEIGHTS, "config.json"])
def test_a_body_that_is_too_long_is_refused(hub, model, connect, read, path):
    hub.faults.add(Fault("pad", path=path, count=10))
    with pytest.raises(MismatchError, match=path):
        fetch(connect(), read, path)


def test_a_resumed_body_that_is_too_long_is_refused(hub, model, connect, read):
    hub.faults.add(Fault("drop", after=50_000))
    hub.faults.add(Fault("pad", route="cdn", count=1))
    with pytest.raises(MismatchError):
        fetch(connect(), read)


@pytest.mark.usefixtures("model")
@pytest.mark.parametrize("size", [959_000, 961_000])
def test_another_size_than_was_listed_is_refused(hub, connect, read, content, size):
    digest = hashlib.sha256(content).hexdigest()
    hub.claim(REPO, WEIGHTS, size=size, lfs={"oid": digest, "size": size, "pointerSize": 1})
    with pytest.raises(MismatchError, match=f"{size:,} bytes"):
        fetch(connect(), read)
    assert ranges(hub) == [""]


@pytest.mark.parametrize("size", [1, 3])
def test_another_size_of_a_small_file_is_refused(hub, model, connect, read, size):
    hub.claim(REPO, "config.json", size=size)
    with pytest.raises(MismatchError):
        fetch(connect(), read, "config.json")


@pytest.mark.usefixtures("model")
@pytest.mark.parametrize(("path", "skip"), [(WEIGHTS, 1), ("big.txt", 0)])
def test_an_etag_that_changes_is_another_file(hub, connect, read, path, skip):
    hub.commit(REPO, {"big.txt": bytes(200_000)})
    hub.faults.add(Fault("drop", after=50_000))
    hub.faults.add(Fault("etag", route="resolve", skip=skip))
    with pytest.raises(UpstreamGoneError, match="changed during the download"):
        fetch(connect(), read, path)


@pytest.mark.parametrize(
    "deed",
    [
        lambda hub: hub.force_push(REPO, {"x": b"y"}),
        lambda hub: hub.delete(REPO),
    ],
)
def test_what_vanishes_in_the_middle_is_named(hub, model, connect, read, deed):
    upstream = connect()
    listing = upstream.list(REPO)
    hub.faults.add(Fault("drop", after=50_000))
    with upstream.open(listing, listing.files[2], 0) as stream:
        stream.readinto(memoryview(bytearray(1000)))
        deed(hub)
        with pytest.raises(UpstreamGoneError, match="Org/Model"):
            read(stream)


def test_a_file_that_was_listed_and_is_not_there_is_named(hub, model, connect, read):
    hub.list_also(REPO, {"type": "file", "path": "ghost.txt", "size": 5, "oid": "0" * 40})
    with pytest.raises(UpstreamGoneError, match=r"ghost\.txt of Org/Model at [0-9a-f]{40} is gone"):
        fetch(connect(), read, "ghost.txt")


@pytest.mark.parametrize("status", [403, 451, 404, 400, 418])
def test_refusals_are_not_retried(hub, model, connect, read, slept, status):
    hub.faults.add(Fault("status", route="resolve", status=status, times=None))
    with pytest.raises(UpstreamGoneError):
        fetch(connect(), read)
    assert slept == []


@pytest.mark.parametrize(
    "path",
    [
        "a b.txt",
        "a#b",
        "a?b=c",
        "100%",
        "a%2Fb",
        "ünïcødé/日本語.txt",
        "a+b&c;d",
        "a'b\"c",
        "[x]{y}",
    ],
)
def test_odd_names_find_their_files(hub, connect, read, path):
    hub.create(REPO, {path: b"right", "decoy": b"wrong", path + ".bin": bytes(50)})
    assert fetch(connect(), read, path) == b"right"
    assert fetch(connect(), read, path + ".bin") == bytes(50)


def test_nothing_is_compressed_when_only_identity_is_accepted(hub, model, connect, read):
    fault = hub.faults.add(Fault("gzip", times=None))
    assert fetch(connect(), read, "config.json") == b"{}"
    assert fault.hits == 0


class FakeAnswer:
    """A body as a hub could send it and the loopback hub does not."""

    def __init__(self, *chunks, status=200, encoded=False, **headers):
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.first, self.status, self.encoded = self.headers, status, encoded
        self._chunks = chunks

    def chunks(self):
        for chunk in self._chunks:
            if isinstance(chunk, Exception):
                raise chunk
            yield chunk


def fake_stream(size, *answers, attempts=3):
    asked, left = [], list(answers)

    @contextmanager
    def ask(start):
        asked.append(start)
        yield left.pop(0)

    policy = RetryPolicy(attempts=attempts, sleep=lambda _: None)
    file = RemoteFile("f.bin", size)
    stream = HubStream(ask, file, Asked("a/b", "", "f.bin"), offset=0, retry=policy, throttle=None)
    return stream, asked


def test_a_body_without_a_length_is_measured(read):
    assert read(fake_stream(4, FakeAnswer(b"ab", b"cd"))[0]) == b"abcd"
    for chunks in ([b"ab", b"cde"], [b"abcd", b"e"]):
        with pytest.raises(MismatchError, match=r"f\.bin of a/b was listed with 4 bytes"):
            read(fake_stream(4, FakeAnswer(*chunks))[0])


def test_a_connection_that_breaks_after_the_last_byte_does_not_matter(read):
    stream, asked = fake_stream(4, FakeAnswer(b"abcd", AgainError("reset")))
    assert read(stream) == b"abcd"
    assert asked == [0]


def test_a_file_that_is_really_shorter_is_refused_in_the_end(read):
    part = {"status": 206, "content_range": "bytes 3-3/*"}
    stream, asked = fake_stream(4, FakeAnswer(b"abc"), *[FakeAnswer(**part)] * 3)
    with pytest.raises(NetworkError, match="ended too early, 3 times in a row"):
        read(stream)
    assert asked == [0, 3, 3, 3]


def test_compressed_bodies_are_taken_plain_and_never_joined(read):
    part = FakeAnswer(b"\x1f\x8b", status=206, encoded=True, content_range="bytes 2-3/4")
    stream, asked = fake_stream(
        4,
        FakeAnswer(b"ab", encoded=True, content_length="99"),
        part,
        FakeAnswer(b"abc", encoded=True),
        FakeAnswer(b"a", b"bcd", encoded=True),
    )
    assert read(stream) == b"abcd"
    assert asked == [0, 2, 0, 0]


@pytest.mark.parametrize("status", [204, 304, 203])
def test_an_answer_without_the_file_is_no_answer(read, status):
    stream, asked = fake_stream(4, *[FakeAnswer(b"", status=status)] * 3)
    with pytest.raises(NetworkError, match=f"HTTP {status}"):
        read(stream)
    assert asked == [0, 0, 0]


@pytest.mark.parametrize("told", ["", "bytes */4", "bytes 0-3/4", "bytes 2-3/4, 9", "items 2-3/4"])
def test_a_range_must_say_that_it_is_the_right_one(read, told):
    wrong = FakeAnswer(b"XX", status=206, content_range=told)
    right = FakeAnswer(b"cd", status=206, content_range="bytes 2-3/4")
    assert read(fake_stream(4, FakeAnswer(b"ab"), wrong, right)[0]) == b"abcd"


@pytest.mark.usefixtures("model")
def test_compression_that_was_not_asked_for_is_undone(hub, connect, read, monkeypatch):
    plain = Session.get

    def greedy(self, url, asked, headers):
        accepting = headers | {"accept-encoding": "gzip"} if "accept-encoding" in headers else {}
        return plain(self, url, asked, {**headers, **accepting})

    monkeypatch.setattr(Session, "get", greedy)
    text = b"words and words " * 10_000
    hub.commit(REPO, {"big.txt": text})
    fault = hub.faults.add(Fault("gzip", path="big.txt"))
    assert fetch(connect(), read, "big.txt") == text
    assert fault.hits == 1


def test_streams_share_the_throttle(hub, model, connect, read, content):
    slept = []
    limit = Throttle(1_000_000, 0, clock=lambda: 0.0, sleep=slept.append)
    assert fetch(connect(throttle=limit), read) == content
    assert slept[-1] == pytest.approx(len(content) / 1_000_000)


@pytest.mark.usefixtures("model")
def test_threads_share_an_upstream(hub, connect, read, content):
    hub.faults.add(Fault("drop", after=90_000, times=5))
    upstream = connect()
    listing = upstream.list(REPO)
    right = []

    def work():
        with upstream.open(listing, listing.files[2], 0) as stream:
            right.append(read(stream) == content)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert right == [True] * 6


def test_a_stream_that_is_left_early_hangs_up(hub, model, connect):
    hub.rate = 500_000
    upstream = connect()
    listing = upstream.list(REPO)
    with upstream.open(listing, listing.files[2], 0) as stream:
        assert stream.readinto(memoryview(bytearray(1000))) == 1000
