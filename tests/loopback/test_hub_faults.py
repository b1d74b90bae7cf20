from __future__ import annotations

import gzip
import http.client
import json
import socket
import time
from pathlib import Path

import pytest
from hubkit import FILES, WEIGHTS, request
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from archiver.loopback.faults import Fault
from archiver.loopback.hub import Hub

README = FILES["README.md"]


@pytest.mark.parametrize("file", ["README.md", "model.safetensors"])
def test_drop_ends_cleanly_in_the_middle(hub, tiny, get, file):
    fault = hub.faults.add(Fault("drop", path=file, after=700))
    with pytest.raises(http.client.IncompleteRead) as cut:
        get(file)
    assert cut.value.partial == FILES[file][:700]
    assert hub.requests.bodies()[-1].sent == 700
    assert get(file).body == FILES[file]
    assert fault.hits == 1


def test_reset_is_a_reset(hub, tiny, get):
    hub.faults.add(Fault("reset", after=500_000))
    with pytest.raises(ConnectionResetError):
        get("model.safetensors")
    assert get("model.safetensors").body == WEIGHTS


def test_stall_outlasts_the_client(hub, tiny, ask):
    hub.faults.add(Fault("stall", path="README.md", after=10, seconds=60))
    with pytest.raises(TimeoutError):
        ask("/org/tiny/resolve/main/README.md", timeout=0.2)


def test_stall_then_the_rest(hub, tiny, get):
    hub.faults.add(Fault("stall", path="README.md", after=10, seconds=0.2))
    started = time.monotonic()
    assert get("README.md").body == README
    assert time.monotonic() - started >= 0.2


def test_a_stall_does_not_hold_up_the_end():
    with Hub() as hub:
        hub.create("org/tiny", FILES)
        hub.faults.add(Fault("stall", seconds=600))
        with pytest.raises(TimeoutError):
            request(f"{hub.endpoint}/org/tiny/resolve/main/README.md", timeout=0.1)
        started = time.monotonic()
    assert time.monotonic() - started < 60


def test_flip_changes_one_bit_of_one_byte(hub, tiny, get):
    fault = hub.faults.add(Fault("flip", path="*.safetensors", offset=100_000))
    assert get("model.safetensors", Range="bytes=0-99999").body == WEIGHTS[:100_000]
    assert fault.hits == 0
    wrong = get("model.safetensors", Range="bytes=99999-").body
    differing = [n for n, (a, b) in enumerate(zip(wrong, WEIGHTS[99_999:], strict=True)) if a != b]
    assert (differing, wrong[1] ^ WEIGHTS[100_000]) == ([1], 1)
    assert get("model.safetensors").body == WEIGHTS


def test_the_client_does_not_notice_a_flip(hub, tiny, api, tmp_path):
    hub.faults.add(Fault("flip", offset=5))
    path = api.hf_hub_download(tiny, "model.safetensors", cache_dir=tmp_path)
    assert Path(path).read_bytes() != WEIGHTS


@pytest.mark.parametrize(("kind", "change"), [("short", -3), ("pad", 3)])
def test_wrong_lengths_that_agree_with_themselves(hub, tiny, get, kind, change):
    hub.faults.add(Fault(kind, path="README.md", count=3))
    answer = get("README.md")
    assert len(answer.body) == int(answer.headers["Content-Length"]) == len(README) + change
    assert answer.body[: len(README) - 3] == README[:-3]
    assert get("README.md").body == README


def test_a_burst_of_server_errors(hub, tiny, get):
    fault = hub.faults.add(Fault("status", status=502, times=3))
    assert [get("README.md").status for _ in range(4)] == [502, 502, 502, 200]
    assert fault.hits == 3


def test_status_of_an_api_route_only(hub, tiny, get, ask):
    hub.faults.add(Fault("status", route="tree", times=None))
    assert get("model.safetensors").status == 200
    assert [ask(f"/api/models/{tiny}/tree/main").status for _ in range(3)] == [503] * 3
    assert ask(f"/api/models/{tiny}").status == 200
    hub.faults.clear()
    assert ask(f"/api/models/{tiny}/tree/main").status == 200


def test_rate_limit_says_when_to_come_back(hub, tiny, ask):
    hub.faults.add(Fault("rate_limit", route="info", seconds=7, times=2))
    hub.faults.add(Fault("rate_limit", route="refs"))
    answer = ask(f"/api/models/{tiny}")
    assert (answer.status, answer.headers["Retry-After"]) == (429, "7")
    assert answer.headers["RateLimit"] == '"api";r=0;t=7'
    with pytest.raises(HfHubHTTPError, match="Retry after 7 seconds"):
        HfApi(endpoint=hub.endpoint, token=False).model_info(tiny)
    assert ask(f"/api/models/{tiny}/refs").headers["Retry-After"] is None


def test_expired_signature_strikes_the_cdn_only(hub, tiny, get):
    hub.faults.add(Fault("expired"))
    assert get("README.md").status == 200
    assert get("model.safetensors").status == 403
    assert get("model.safetensors").status == 200
    assert hub.requests.of(port="cdn")[0].fault == "expired"


def test_wrong_etag(hub, tiny, ask):
    hub.faults.add(Fault("etag", times=2))
    plain = ask("/org/tiny/resolve/main/README.md", "HEAD")
    large = ask("/org/tiny/resolve/main/model.safetensors", "HEAD")
    assert plain.headers["ETag"] == f'"{"0" * 40}"'
    assert large.headers["X-Linked-ETag"] == f'"{"0" * 64}"'


def test_wrong_content_range(hub, tiny, get):
    fault = hub.faults.add(Fault("content_range", count=5))
    assert get("README.md").status == 200
    assert fault.hits == 0
    answer = get("README.md", Range="bytes=10-19")
    assert (answer.status, answer.headers["Content-Range"]) == (206, "bytes 15-19/2100")


@pytest.mark.parametrize("file", ["README.md", "model.safetensors"])
def test_ignored_range(hub, tiny, get, file):
    hub.faults.add(Fault("ignore_range"))
    answer = get(file, Range="bytes=10-19")
    assert (answer.status, answer.body) == (200, FILES[file])
    assert answer.headers["Content-Range"] is None
    assert get(file, Range="bytes=10-19").status == 206


def test_gzip_unless_identity(hub, tiny, get):
    hub.faults.add(Fault("gzip", times=None))
    packed = get("README.md", Accept_Encoding="gzip, deflate")
    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.body) == README
    assert get("README.md", Accept_Encoding="identity").body == README


def test_redirect_elsewhere(hub, tiny, ask):
    with Hub() as other:
        hub.faults.add(Fault("redirect", location=f"{other.endpoint}/evil"))
        answer = ask("/org/tiny/resolve/main/README.md")
        assert (answer.status, answer.headers["Location"]) == (302, f"{other.endpoint}/evil")
        ask(answer.headers["Location"], Authorization="Bearer hf_leak")
        assert [r.token for r in other.requests] == ["hf_leak"]


def test_faults_are_narrowed_and_skip(hub, tiny, ask):
    hub.create("org/other", FILES)
    fault = hub.faults.add(
        Fault("status", repository="org/tiny", path="onnx/*", method="GET", skip=1, times=None)
    )
    paths = [
        ("org/other", "onnx/config.json", "GET"),
        ("org/tiny", "config.json", "GET"),
        ("org/tiny", "onnx/config.json", "HEAD"),
        ("org/tiny", "onnx/config.json", "GET"),
        ("org/tiny", "onnx/config.json", "GET"),
        ("org/tiny", "onnx/absent.json", "GET"),
    ]
    answers = [ask(f"/{repo}/resolve/main/{file}", method) for repo, file, method in paths]
    assert [a.status for a in answers] == [200, 200, 200, 200, 503, 404]
    assert fault.hits == 1


def test_a_cut_is_not_used_up_by_a_head_or_a_short_body(hub, tiny, get, ask):
    fault = hub.faults.add(Fault("drop", after=1000))
    ask("/org/tiny/resolve/main/README.md", "HEAD")
    get("config.json")
    get("README.md", Range="bytes=0-99")
    assert fault.hits == 0
    with pytest.raises(http.client.IncompleteRead):
        get("README.md")


def test_a_cut_without_a_route_leaves_the_api_alone(hub, tiny, ask):
    fault = hub.faults.add(Fault("drop"))
    assert ask(f"/api/models/{tiny}").status == 200
    assert fault.hits == 0


def test_cut_of_a_listing(hub, tiny, ask):
    hub.faults.add(Fault("drop", route="tree", after=10))
    with pytest.raises(http.client.IncompleteRead):
        ask(f"/api/models/{tiny}/tree/main")


def test_one_answer_takes_one_fault(hub, tiny, get):
    hub.faults.add(Fault("flip", path="README.md"))
    hub.faults.add(Fault("status", path="README.md"))
    assert get("README.md").body[0] == README[0] ^ 1
    assert get("README.md").status == 503


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (lambda hub: hub.delete("org/tiny"), 401),
        (lambda hub: hub.rename("org/tiny", "org/moved"), 307),
        (lambda hub: hub.force_push("org/tiny", {"x": b"x"}), 404),
        (lambda hub: hub.disable("org/tiny"), 403),
    ],
    ids=["deleted", "renamed", "force-pushed", "disabled"],
)
def test_a_change_between_listing_and_download(hub, tiny, ask, change, status):
    hub.page_size = 3
    sha = json.loads(ask(f"/api/models/{tiny}").body)["sha"]
    hub.after_listing(tiny, lambda: change(hub))
    first = ask(f"/api/models/{tiny}/tree/{sha}?recursive=true")
    assert ask(f"/org/tiny/resolve/{sha}/README.md").status == 200
    following = first.headers["Link"].partition(">")[0].removeprefix("<")
    while following:
        page = ask(following)
        assert page.status == 200
        following = (page.headers["Link"] or "").partition(">")[0].removeprefix("<")
    assert ask(f"/org/tiny/resolve/{sha}/README.md").status == status


def test_an_error_in_a_hook_reaches_the_test():
    hub = Hub()
    hub.create("org/tiny", FILES)
    hub.after_listing("org/tiny", lambda: 1 / 0)
    hub.start()
    assert request(f"{hub.endpoint}/api/models/org/tiny/tree/main").status == 500
    with pytest.raises(ZeroDivisionError):
        hub.__exit__(None, None, None)


def test_range_only_gives_out_small_parts(hub, tiny, get):
    fault = hub.faults.add(
        Fault("range_only", path="*.safetensors", route="cdn", count=10, times=None)
    )
    for refused in ({}, {"Range": "bytes=5-"}, {"Range": "bytes=0-10"}, {"Range": "bytes=-3"}):
        answer = get("model.safetensors", **refused)
        assert (answer.status, b"Use ranges" in answer.body) == (400, True)
    assert get("model.safetensors", Range="bytes=5-14").body == WEIGHTS[5:15]
    assert get("README.md").body == README
    assert fault.hits == 4


def test_drip_is_right_in_the_end(hub, tiny, get):
    hub.faults.add(Fault("drip", path="README.md", after=len(README) - 20))
    assert get("README.md").body == README
    assert hub.requests.bodies()[-1].sent == len(README)


@pytest.mark.parametrize("kind", ["slow_head", "interim"])
def test_a_head_that_does_not_end(hub, tiny, kind):
    hub.faults.add(Fault(kind, path="README.md", seconds=0.001))
    port = int(hub.endpoint.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(b"GET /org/tiny/resolve/main/README.md HTTP/1.1\r\n\r\n")
        got = b""
        while len(got) < 200:
            got += connection.recv(1000)
    assert got.startswith(
        b"HTTP/1.1 200 OK\r\nX-Slow: xx" if kind == "slow_head" else b"HTTP/1.1 103 "
    )
    assert got.count(b"HTTP/1.1 103") == got.count(b"HTTP/") - (kind == "slow_head")


def test_forge_sets_bodies_headers_and_the_status(hub, tiny, get):
    answers = {1: (b"other", {"etag": '"x"', "X-New": "1"}), 2: (None, {"ETag": None})}
    hub.faults.add(
        Fault("forge", path="README.md", forge=lambda n: answers[n], times=2, status=201)
    )
    first, second, third = (get("README.md") for _ in range(3))
    assert (first.status, first.body, first.headers["X-New"]) == (201, b"other", "1")
    assert first.headers["ETag"] == '"x"'
    assert (second.body, second.headers["ETag"]) == (README, None)
    assert (third.status, third.body) == (200, README)
