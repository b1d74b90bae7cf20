"""Clients that send nonsense, too much, too slowly, or read nothing: none of them matters to the others."""

from __future__ import annotations

import http.client
import resource
import socket
import struct
import time
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kit.repository import WEIGHTS
from kit.served import Server, served
from servedkit import LARGE, MODEL, large

from archiver.web.hub_api import BODY_MAX
from archiver.web.server import (
    BODY_SECONDS,
    HEADER_SECONDS,
    HEADERS_MAX,
    PIPELINE_MAX,
    STALL_SECONDS,
    URL_MAX,
    Deadlines,
    Protocol,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

PATH = f"/{MODEL}/resolve/main/config.json"
BIG = f"/org/large/resolve/main/{LARGE}"
ONCE = f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
SHARED = {
    "max_examples": 150,
    "deadline": None,
    "derandomize": True,
    "suppress_health_check": [HealthCheck.function_scoped_fixture],
}


@pytest.fixture(scope="module")
def hasty(history) -> Iterator[Server]:
    """A server whose clients have a twelfth of the time."""
    with served(history.archive, "--limit-connections", 20, scale=0.08) as running:
        yield running


def _connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=60)


def _answered(server: Server) -> socket.socket:
    """A connection on which a request was answered, and nothing is asked since.

    On a busy machine this process may be stopped for longer than a client may take: it tries again.
    """
    deadline = time.monotonic() + 60
    while True:
        connection = _connect(server)
        with suppress(ConnectionError, AssertionError):
            _exchange(connection)
            return connection
        connection.close()
        assert time.monotonic() < deadline


def _all(connection: socket.socket) -> bytes:
    """What is sent until the server closes."""
    got = bytearray()
    with suppress(ConnectionResetError):
        while data := connection.recv(1 << 16):
            got += data
    return bytes(got)


def _fine(server: Server, history) -> None:
    """It still answers, and rightly; of a busy machine's clients even a good one may be late once."""
    deadline = time.monotonic() + 60
    answer = None
    while answer is None or answer.status != 200:
        assert time.monotonic() < deadline
        with suppress(ConnectionError, http.client.HTTPException):
            answer = server.ask(PATH)
    assert answer.body == history.model[history.commits[2]]["config.json"]


# ---- whatever is asked for

WORDS = st.sampled_from(
    [
        *("..", ".", "", "%2e%2e", "%2F", "%00", "%0d%0aX: y", "%ff%fe", "%", "%zz", "etc/passwd"),
        *("api", "models", "datasets", "collections", "whoami-v2", "resolve", "raw", "tree"),
        *("revision", "refs", "commits", "paths-info", "auth-check", "main", "org", "model"),
        *("config.json", "refs%2Fheads%2Fmain", "a" * 300, "%E2%80%AE", "modelscope:org", ";x=1"),
        *("archive.json", "packs", "repositories", "static", "proof", "%F0%9F%98%80", "~", "*"),
    ]
)
PARTS = st.one_of(
    WORDS,
    st.text(max_size=20).map(lambda text: quote(text.encode("utf-8", "surrogatepass"), safe="")),
)
QUERIES = st.one_of(
    st.just(""),
    st.sampled_from(
        [
            *("cursor=-1", "cursor=99999999999", "cursor=x", "limit=0", "limit=-5", "limit=²"),
            *(
                "expand=true&recursive=1",
                "search=%00",
                "filter=%ff",
                "sort=lastModified&direction=1",
            ),
            *("expand=sha&expand[]=tags", "blobs=true", "full=1&limit=1", "a=1&" * 50),
        ]
    ),
    st.text(max_size=20).map(lambda text: quote(text.encode("utf-8", "surrogatepass"))),
)
HEADERS = st.dictionaries(
    st.sampled_from(
        [
            *("Range", "If-Range", "If-None-Match", "If-Match", "Authorization", "Accept"),
            *("Content-Type", "X-Forwarded-For", "X-Forwarded-Proto", "Cookie", "Expect"),
        ]
    ),
    st.text(st.characters(min_codepoint=33, max_codepoint=255), max_size=30),
    max_size=4,
)


def _asked(server: Server, method: str, path: str, headers: dict[str, str], body: bytes = b""):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    with closing(connection):
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        lines += [f"Content-Length: {len(body)}"] if body else []
        connection.connect()
        connection.sock.sendall(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body)
        answer = http.client.HTTPResponse(connection.sock, method=method)
        answer.begin()
        told = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, told, answer.read()


@settings(**SHARED)
@given(
    parts=st.lists(PARTS, max_size=8),
    query=QUERIES,
    headers=HEADERS,
    method=st.sampled_from(["GET", "GET", "GET", "HEAD", "POST"]),
)
def test_any_address_has_an_answer_and_none_is_an_accident(
    server, history, parts, query, headers, method
):
    path = "/" + "/".join(parts) + (f"?{query}" if query else "")
    status, told, body = _asked(server, method, path, headers)
    assert status < 500, (path, body)
    assert status not in {301, 302, 307, 308}
    for leak in (b"Traceback", b"root:x:", b'"kind":"archive"'):
        assert leak not in body
    # Pages show people commands, which name the archive; the Hub's answers do not.
    assert str(history.archive).encode() not in body or told["content-type"].startswith("text/html")
    assert all("\r" not in value and "\n" not in value for value in told.values())


@settings(**SHARED)
@given(st.lists(PARTS, max_size=5))
def test_no_path_leads_out_of_a_snapshot(server, history, parts):
    files = history.model[history.commits[2]]
    path = "/".join(parts)
    status, _, body = _asked(server, "GET", f"/{MODEL}/resolve/main/{path}", {})
    if status == 200:
        assert body in files.values()
    else:
        assert status in {400, 404}


@settings(**SHARED)
@given(
    body=st.one_of(
        st.binary(max_size=200),
        st.lists(PARTS, max_size=5).map(
            lambda found: "&".join(f"paths={x}" for x in found).encode()
        ),
        st.just(b'{"paths": ["config.json", 5]}'),
        st.just(b"[" * 5000),
        st.just(b'{"paths": ' + b"[" * 5000),
    ),
    kind=st.sampled_from(
        ["application/x-www-form-urlencoded", "application/json", "", "multipart"]
    ),
)
def test_any_body_has_an_answer(server, body, kind):
    path = f"/api/models/{MODEL}/paths-info/main"
    status, _, _ = _asked(server, "POST", path, {"Content-Type": kind}, body)
    assert status in {200, 400}


def test_paths_can_be_asked_for_as_json(server):
    path = f"/api/models/{MODEL}/paths-info/main"
    kind = {"Content-Type": "application/json"}
    status, _, body = _asked(server, "POST", path, kind, b'{"paths": ["config.json"]}')
    assert status == 200
    assert b"config.json" in body


@settings(**SHARED)
@given(st.binary(max_size=300))
def test_what_is_no_http_is_closed(server, data):
    with _connect(server) as connection:
        connection.sendall(data + b"\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        got = _all(connection)
    assert b" 500 " not in got
    assert b"Traceback" not in got


# ---- too much


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /" + b"a" * (URL_MAX + 10) + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", b"414"),
        (
            b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: " + b"a" * (HEADERS_MAX + 10),
            b"431",
        ),
        (
            b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: a\r\n" * HEADERS_MAX,
            b"431",
        ),
        (b"\r\n" * HEADERS_MAX, b"431"),
        (
            b"POST /api/models/org/model/paths-info/main HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Length: 9000000\r\n\r\n" + b"paths=a&" * 300_000,
            b"413",
        ),
    ],
)
def test_too_much_is_refused(server, history, request_, status):
    with _connect(server) as connection:
        with suppress(BrokenPipeError, ConnectionResetError):  # it may say no while this sends
            connection.sendall(request_)
        got = _all(connection)
    # A client that still sends may lose the answer to the reset of its connection.
    assert not got or status in got.split(b"\r\n")[0]
    _fine(server, history)


def test_too_many_requests_at_once_close_the_connection(server, history):
    with _connect(server) as connection:
        connection.sendall(ONCE * (PIPELINE_MAX * 50))
        assert _all(connection).count(b"HTTP/1.1 200") < PIPELINE_MAX * 50
    _fine(server, history)


def test_requests_one_after_the_other_are_answered_in_order(server):
    second = ONCE.replace(b"config.json", WEIGHTS.encode())
    last = ONCE.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    with _connect(server) as connection:
        connection.sendall(ONCE + second + last)
        got = _all(connection)
    assert got.count(b"HTTP/1.1 200") == 3


def test_a_body_may_have_a_megabyte(server):
    path, form = "/api/models/org/model/paths-info/main", b"paths=config.json&x="
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    for size, status in ((BODY_MAX, 200), (BODY_MAX + 1, 413)):
        answer = _asked(server, "POST", path, headers, form.ljust(size, b"a"))
        assert answer[0] == status


# ---- too slowly; the server's bounds are short here, the test's are not


def test_headers_that_do_not_end(hasty, history):
    with _connect(hasty) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        began = time.monotonic()
        while time.monotonic() - began < 60:
            try:
                connection.sendall(b"X: a\r\n")
            except (BrokenPipeError, ConnectionResetError):
                break
            time.sleep(0.05)
        assert time.monotonic() - began < 60
    _fine(hasty, history)


def test_headers_that_stop(hasty):
    with _connect(hasty) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: loc")
        assert b" 408 " in _all(connection)


def test_who_sends_nothing(hasty):
    with _connect(hasty) as connection:
        assert _all(connection) == b""


def test_who_sends_nothing_more(hasty):
    with _answered(hasty) as connection:
        assert _all(connection) == b""


def test_who_sends_line_ends_for_ever_after_an_answer(hasty):
    with _answered(hasty) as connection:
        began = time.monotonic()
        while time.monotonic() - began < 60:
            try:
                connection.sendall(b"\r\n")
            except (BrokenPipeError, ConnectionResetError):
                break
            time.sleep(0.05)
        assert time.monotonic() - began < 60


def test_a_body_that_does_not_end(hasty, history):
    head = (
        b"POST /api/models/org/model/paths-info/main HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 1000\r\n\r\n"
    )
    with _connect(hasty) as connection:
        connection.sendall(head)
        _all(connection)
    _fine(hasty, history)


def test_who_reads_nothing_is_cut_off(hasty, history):
    with _connect(hasty) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(f"GET {BIG} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        began = time.monotonic()
        # It must be told apart from the outside that nobody waits for it: its reset arrives.
        while time.monotonic() - began < 60:
            error = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
            if error or info[0] == 7:  # TCP_CLOSE
                break
            time.sleep(0.05)
        assert time.monotonic() - began < 60
    _fine(hasty, history)


class _Transport:
    """A connection of which a test says what the client has not taken yet."""

    unread = 0

    def get_write_buffer_size(self) -> int:
        return self.unread


def _connection() -> Protocol:
    """A connection as it is when an answer has begun at the time 0."""
    connection = Protocol.__new__(Protocol)
    connection.transport = _Transport()
    connection.deadlines = Deadlines()
    connection.wait_began = connection.body_began = None
    connection._unread, connection._unread_since = 0, 0.0
    return connection


def test_who_reads_slowly_but_reads_is_not_cut_off():
    connection, now = _connection(), 0.0
    for unread in range(100, 0, -1):
        connection.transport.unread, now = unread, now + STALL_SECONDS
        assert connection.fault(now) == ""
    assert connection.fault(now + STALL_SECONDS) == ""
    assert "reads nothing" in connection.fault(now + STALL_SECONDS + 1)


def test_who_has_taken_all_is_waited_for_anew():
    connection = _connection()
    assert connection.fault(STALL_SECONDS * 5) == ""
    for at in range(10):
        connection.transport.unread = 7
        assert connection.fault(at * STALL_SECONDS * 2) == ""
        connection.transport.unread = 0
        assert connection.fault(at * STALL_SECONDS * 2 + 1) == ""


def test_headers_and_bodies_have_their_time():
    connection = _connection()
    connection.wait_began = 5.0
    assert connection.fault(5.0 + HEADER_SECONDS) == ""
    assert "headers" in connection.fault(5.1 + HEADER_SECONDS)
    connection.wait_began, connection.body_began = None, 5.0
    assert connection.fault(5.0 + BODY_SECONDS) == ""
    assert "body" in connection.fault(5.1 + BODY_SECONDS)


def test_who_reads_slowly_gets_all(server):
    with _connect(server) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        connection.sendall(
            f"GET {BIG} HTTP/1.1\r\nHost: localhost\r\nRange: bytes=0-3999999\r\n"
            "Connection: close\r\n\r\n".encode()
        )
        got = bytearray()
        while data := connection.recv(1 << 16):
            got += data
            if len(got) < 1_000_000:
                time.sleep(0.02)
    assert bytes(got).partition(b"\r\n\r\n")[2] == large()[LARGE][:4_000_000]


def test_who_goes_away_in_the_middle(server, history):
    for _ in range(20):
        with _connect(server) as connection:
            connection.sendall(f"GET {BIG} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            connection.recv(1000)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    _fine(server, history)


# ---- too many


def _downloads(server: Server, stack: ExitStack, count: int) -> None:
    """Begin so many downloads, and read no further."""
    for _ in range(count):
        connection = stack.enter_context(_connect(server))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(f"GET {BIG} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert connection.recv(100)


def _exchange(connection: socket.socket) -> None:
    """Ask once, and read all of the answer."""
    connection.sendall(ONCE)
    got = b""
    while not got.endswith(b"}\n"):
        data = connection.recv(1 << 16)
        assert data, got
        got += data
    assert got.startswith(b"HTTP/1.1 200 ")


def test_who_comes_too_late_is_told_so(history):
    with served(history.archive, "--limit-connections", 3) as server, ExitStack() as stack:
        _downloads(server, stack, 3)
        late = server.ask(PATH)
        assert (late.status, late.headers["retry-after"]) == (503, "5")
        stack.close()
        deadline = time.monotonic() + 60
        while server.ask(PATH).status != 200:
            assert time.monotonic() < deadline


def test_who_comes_while_no_file_can_be_opened_waits(history):
    with served(history.archive) as server:
        _fine(server, history)
        soft, hard = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
        assert soft in {hard, resource.RLIM_INFINITY} or soft >= 1 << 16
        few = len(list(Path(f"/proc/{server.process.pid}/fd").iterdir())) + 8
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (few, few))
        with ExitStack() as stack:
            for _ in range(40):
                stack.enter_context(closing(_connect(server)))
            time.sleep(1)
        _fine(server, history)
        code, err = server.stop()
        assert (code, err) == (0, "")


def test_connections_that_are_only_kept_open_make_room(history):
    with served(history.archive, "--limit-connections", 3) as server, ExitStack() as stack:
        kept = [stack.enter_context(_connect(server)) for _ in range(3)]
        for connection in kept:
            _exchange(connection)
        assert server.ask(PATH).status == 200
        # The one that was idle for longest went; the others serve on.
        assert kept[0].recv(1 << 16) == b""
        _exchange(kept[2])


def test_many_slow_clients_keep_nobody_waiting(server, history):
    with ExitStack() as stack:
        _downloads(server, stack, 40)
        _fine(server, history)
        assert server.ask(BIG).body == large()[LARGE]
