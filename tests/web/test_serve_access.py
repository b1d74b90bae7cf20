"""Who may ask ``archiver serve``, by which name, for what; and how it starts and ends."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError
from kit.repository import WEIGHTS
from kit.served import Server, served
from servedkit import LARGE, MODEL

from archiver.web.hub_routes import target_of

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKEN = "a-token-of-many-signs"
PATH = f"/{MODEL}/resolve/main/config.json"


@pytest.fixture(scope="module")
def guarded(history, tmp_path_factory) -> Iterator[Server]:
    file = tmp_path_factory.mktemp("token") / "token"
    file.write_text(f"{TOKEN}\n")
    file.chmod(0o600)
    with served(
        history.archive, "--token-file", file, "-v", "--allowed-host", "Archive"
    ) as running:
        yield running


def test_with_the_token_all_is_there(guarded, history, tmp_path):
    api = HfApi(endpoint=guarded.endpoint, token=TOKEN)
    assert api.model_info(MODEL).sha == history.commits[2]
    got = api.hf_hub_download(MODEL, WEIGHTS, local_dir=tmp_path)
    assert Path(got).read_bytes() == history.model[history.commits[2]][WEIGHTS]
    assert api.whoami()["name"] == "reader"


@pytest.mark.parametrize("path", [PATH, "/api/models", f"/api/models/{MODEL}", "/", "/nothing"])
@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Token {TOKEN}",
        TOKEN,
        "Basic !!!",
        f"Basic {base64.b64encode(TOKEN.encode()).decode()}",
    ],
)
def test_without_it_nothing_is(guarded, path, header):
    answer = guarded.ask(path, {} if header is None else {"Authorization": header})
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="archiver"'
    assert MODEL.encode() not in answer.body


def test_a_browser_gives_it_as_a_password(guarded):
    answer = guarded.ask("/", {"Accept": "text/html"})
    assert answer.headers["www-authenticate"].startswith('Basic realm="archiver"')
    told = base64.b64encode(f"anybody:{TOKEN}".encode()).decode()
    assert guarded.ask("/", {"Accept": "text/html", "Authorization": f"Basic {told}"}).status == 200


def test_clients_say_that_a_token_is_needed(guarded):
    with pytest.raises(GatedRepoError, match="HF_TOKEN"):
        HfApi(endpoint=guarded.endpoint, token=False).model_info(MODEL)
    with pytest.raises(HfHubHTTPError, match="Invalid credentials"):
        HfApi(endpoint=guarded.endpoint, token="hf_other").model_info(MODEL)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("localhost:1234", 200),
        ("127.0.0.1", 200),
        ("[::1]:80", 200),
        ("archive", 200),
        ("ARCHIVE.:8080", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("archive.evil.example", 421),
        ("10.0.0.1", 421),
        ("", 400),
        ("localhost:a", 400),
        ("user@localhost", 400),
        ("localhost/x", 400),
        ("[::1", 400),
    ],
)
def test_only_its_own_names_are_answered(guarded, host, status):
    headers = {"Host": host, "Authorization": f"Bearer {TOKEN}"}
    answer = guarded.ask(PATH, headers)
    assert answer.status == status
    if status == 421:
        assert b"--allowed-host" in answer.body


def test_of_two_names_none_counts(server):
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(
            f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n".encode()
        )
        assert b" 400 " in connection.recv(1000)


def test_of_two_tokens_none_counts(guarded):
    own, other = f"Authorization: Bearer {TOKEN}\r\n", "Authorization: Bearer of-somebody-else\r\n"
    for told, status in ((own, b" 200 "), (own + other, b" 401 "), (other + own, b" 401 ")):
        with socket.create_connection(("127.0.0.1", guarded.port)) as connection:
            connection.sendall(f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\n{told}\r\n".encode())
            assert status in connection.recv(1000)


@pytest.mark.parametrize(
    ("told", "header", "status"),
    [("localhost", "evil.example", 200), ("evil.example", "localhost", 421)],
)
def test_the_host_in_a_whole_url_is_the_one_that_counts(server, told, header, status):
    assert server.ask(f"http://{told}{PATH}", {"Host": header}).status == status


def test_a_repository_that_is_named_like_an_address_has_pages_and_files():
    for page in ("org/resolve", "resolve", "datasets/org/raw", "datasets/raw"):
        assert target_of(f"/repositories/{page}/revisions/{'a' * 40}/files") is None
    assert target_of("/org/resolve/resolve/main/a") == (
        "resolve",
        "model",
        "org/resolve",
        "main",
        "a",
    )
    assert target_of("/repositories/x/raw/main/a") == (
        "resolve",
        "model",
        "repositories/x",
        "main",
        "a",
    )


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "MOVE"])
def test_nothing_can_be_written(server, method):
    for path in (PATH, "/api/models", f"/api/models/{MODEL}/preupload/main", "/"):
        assert server.ask(path, method=method).status == 405


def test_browsers_are_told_to_be_careful(server):
    for path in (PATH, "/api/models", "/nothing/at/all"):
        told = server.ask(path).headers
        assert told["x-content-type-options"] == "nosniff"
        policy = "default-src 'none'; frame-ancestors 'none'; sandbox"
        assert told["content-security-policy"] == policy
        assert told["referrer-policy"] == "no-referrer"
        assert told["x-frame-options"] == "DENY"
        assert "access-control-allow-origin" not in told
        assert "server" not in told


def test_pages_and_the_hub_are_beside_each_other(server):
    page = server.ask("/", {"Accept": "text/html"})
    assert page.status == 200
    assert page.headers["content-type"].startswith("text/html")
    lost = server.ask("/no/such/page", {"Accept": "text/html"})
    assert lost.status == 404
    assert lost.headers["content-type"].startswith("text/html")
    assert json.loads(server.ask("/no/such/page").body)["error"]


def test_the_log_has_answers_and_no_secrets(history):
    with served(history.archive, "-v", env={"ARCHIVER_SERVE_TOKEN": TOKEN}) as running:
        path = f"{PATH}?token={TOKEN}"
        assert running.ask(path, {"Authorization": f"Bearer {TOKEN}"}).status == 200
        assert running.ask("/a%0Ab", {"Authorization": "Bearer other-secret"}).status == 401
        code, err = running.stop()
    assert code == 0
    lines = [line for line in err.splitlines() if "archiver.web.access" in line]
    assert len(lines) == 2
    assert sum(f"127.0.0.1 GET {PATH} 200 " in line for line in lines) == 1
    assert "other-secret" not in err
    assert TOKEN not in err


# ---- starting and ending


def _refused(archive, *words: object, env: dict[str, str] | None = None) -> tuple[int, str]:
    command = [sys.executable, "-m", "archiver", "serve", "-C", str(archive), *map(str, words)]
    done = subprocess.run(
        command,
        env=os.environ | (env or {}),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,  # one that is not refused serves for ever
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_other_machines_are_not_served_without_a_word(history, host):
    code, err = _refused(history.archive, "--host", host, "--port", 0)
    assert code == 2
    assert "--public" in err


def test_a_poor_token_is_none(history, tmp_path):
    for text in ("", "short", "two words of a token", "ü" * 20, "x" * 600):
        (tmp_path / "token").write_text(text)
        (tmp_path / "token").chmod(0o600)
        code, err = _refused(history.archive, "--token-file", tmp_path / "token", "--port", 0)
        assert (code, "holds no token" in err) == (2, True)
        assert text not in err or not text
    code, err = _refused(history.archive, "--token-file", tmp_path / "none", "--port", 0)
    assert (code, "cannot be read" in err) == (2, True)
    assert _refused(history.archive, "--port", 0, env={"ARCHIVER_SERVE_TOKEN": ""})[0] == 2


def test_a_token_that_others_can_read_is_refused(history, tmp_path):
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "token").chmod(0o644)
    code, err = _refused(history.archive, "--token-file", tmp_path / "token", "--port", 0)
    assert (code, "chmod 600" in err) == (1, True)


def test_where_there_is_no_archive(tmp_path):
    assert _refused(tmp_path, "--port", 0)[0] == 10


@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_an_address_of_ipv6_goes_with_brackets_and_without(history, host):
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    with served(history.archive, "--host", host) as server:
        assert server.endpoint == f"http://[::1]:{server.port}"
        assert HfApi(endpoint=server.endpoint).model_info(MODEL).id == MODEL


def test_a_port_that_is_taken(history, server):
    code, err = _refused(history.archive, "--port", server.port)
    assert (code, "Choose another --port" in err) == (1, True)


def test_without_the_extra_it_says_what_to_install(history):
    program = (
        "import sys; sys.modules['starlette'] = None; from archiver.__main__ import main; main()"
    )
    command = [sys.executable, "-c", program, "serve", "-C", str(history.archive), "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 4
    assert "[serve]" in done.stderr


def test_the_address_comes_first_also_as_json(history):
    with served(history.archive, "--json") as running:
        told = json.loads(running.endpoint)
    assert told["kind"] == "serving"
    assert told["address"].startswith("http://127.0.0.1:")


def test_by_public_anybody_may_read(history):
    with served(history.archive, "--host", "0.0.0.0", "--public") as running:
        assert running.ask(PATH).status == 200


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_what_is_on_its_way_is_ended_first(history, number, code):
    with served(history.archive) as running:
        with socket.create_connection(("127.0.0.1", running.port)) as connection:
            path = f"/org/large/resolve/main/{LARGE}"
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            got = len(connection.recv(65536))
            running.process.send_signal(number)
            while data := connection.recv(1 << 20):
                got += len(data)
        assert got > 40 << 20
        running.process.wait(120)
        assert running.process.returncode == code


def test_a_second_signal_ends_it_at_once(history):
    with served(history.archive) as running:
        with socket.create_connection(("127.0.0.1", running.port)) as connection:
            path = f"/org/large/resolve/main/{LARGE}"
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            assert connection.recv(1000)
            running.process.send_signal(signal.SIGTERM)
            with pytest.raises(subprocess.TimeoutExpired):
                running.process.wait(1)
            # On a busy machine it may hear of the first only just now: the next one then counts.
            while running.process.poll() is None:
                running.process.send_signal(signal.SIGTERM)
                with suppress(subprocess.TimeoutExpired):
                    running.process.wait(1)
        assert running.process.returncode == 130
