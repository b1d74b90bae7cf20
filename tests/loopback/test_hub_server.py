from __future__ import annotations

import http.client
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hubkit import FILES, WEIGHTS, request

from archiver.loopback.faults import Fault
from archiver.loopback.hub import Hub
from archiver.loopback.server import Link, Timeline


def test_it_listens_on_loopback_only(hub):
    for port in (hub._hub_port, hub._cdn_port):
        assert port._listener.server_address[0] == "127.0.0.1"


def test_it_starts_and_stops_at_once():
    """No thread looks only now and then whether it is to end."""

    def took() -> float:
        started = time.monotonic()
        with Hub() as hub:
            hub.create("org/tiny", FILES)
        return time.monotonic() - started

    # A thread that looks twice a second never ends sooner; a busy machine may hold up any of these.
    assert any(took() < 0.1 for _ in range(200))


def test_stopping_joins_every_thread_and_cuts_idle_connections():
    before = threading.active_count()
    with Hub() as hub:
        hub.create("org/tiny", FILES)
        port = int(hub.endpoint.rpartition(":")[2])
        idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(5)]
        request(f"{hub.endpoint}/api/models/org/tiny")
    assert threading.active_count() == before
    for connection in idle:
        connection.settimeout(600)
        assert connection.recv(1) == b""
        connection.close()


def test_stopping_waits_for_an_answer_in_the_making():
    before = threading.active_count()
    making = threading.Event()
    with Hub() as hub:
        hub.create("org/tiny", FILES)
        hub.faults.add(Fault("call", call=lambda: (making.set(), time.sleep(0.2))))
        connection = http.client.HTTPConnection(hub.endpoint.removeprefix("http://"), timeout=600)
        connection.request("GET", "/api/models/org/tiny")
        assert making.wait(600)
    assert threading.active_count() == before
    connection.close()


def test_stopping_cuts_a_transfer():
    with Hub() as hub:
        hub.create("org/tiny", FILES)
        hub.rate = 20
        connection = http.client.HTTPConnection(hub.endpoint.removeprefix("http://"), timeout=600)
        connection.request("GET", "/org/tiny/resolve/main/README.md")
        response = connection.getresponse()
        started = time.monotonic()
    assert time.monotonic() - started < 0.9 * len(FILES["README.md"]) / hub.rate
    with pytest.raises(http.client.IncompleteRead):
        response.read()
    connection.close()


def test_it_comes_back_on_the_same_ports():
    hub = Hub()
    hub.create("org/tiny", FILES)
    addresses = []
    for _ in range(2):
        hub.start()
        assert request(f"{hub.endpoint}/api/models/org/tiny").status == 200
        addresses.append((hub.endpoint, hub.cdn))
        hub.stop()
        with pytest.raises(ConnectionRefusedError):
            request(f"{hub.endpoint}/api/models/org/tiny")
    assert addresses[0] == addresses[1]
    hub.stop()


def test_one_connection_carries_many_requests(hub, tiny):
    connection = http.client.HTTPConnection(hub.endpoint.removeprefix("http://"), timeout=600)
    for method in ("GET", "HEAD", "GET"):
        connection.request(method, "/org/tiny/resolve/main/README.md")
        response = connection.getresponse()
        assert response.read() == (FILES["README.md"] if method == "GET" else b"")
        assert response.getheader("Connection") is None
    local = connection.sock.getsockname()
    connection.request("GET", "/api/models/org/tiny", headers={"Connection": "close"})
    assert connection.sock.getsockname() == local
    connection.getresponse().read()
    assert connection.sock is None or connection.sock.recv(1) == b""
    connection.close()


@pytest.mark.parametrize(
    "raw", [b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n"]
)
def test_what_is_not_http_gets_400(hub, raw):
    address = ("127.0.0.1", int(hub.endpoint.rpartition(":")[2]))
    with socket.create_connection(address, timeout=600) as connection:
        connection.sendall(raw)
        assert connection.recv(100).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("connections", [1, 4])
def test_the_rate_holds_over_all_connections(hub, tiny, get, connections):
    hub.rate = 8_000_000
    started = time.monotonic()
    with ThreadPoolExecutor(connections) as pool:
        bodies = list(pool.map(lambda _: get("model.safetensors").body, range(4)))
    took = time.monotonic() - started
    assert bodies == [WEIGHTS] * 4
    # Nothing may be faster than the rate, but for one first chunk; a busy machine is slower.
    assert took > 0.9 * 4 * len(WEIGHTS) / 8_000_000


def test_the_rate_of_a_connection(hub, tiny, get):
    hub.connection_rate = 4_000_000
    started = time.monotonic()
    assert get("model.safetensors").body == WEIGHTS
    assert time.monotonic() - started > 0.9 * len(WEIGHTS) / 4_000_000


def test_no_connection_waits_for_the_slots_of_another():
    link = Link(threading.Event())
    link.connection_rate = 1_000_000
    busy, idle = Timeline(), Timeline()
    busy.slot(1_000_000)
    assert list(link.chunks(100, idle)) == [100]
    assert idle.slot(0) < busy.slot(0) - 900_000


def test_each_answer_takes_a_round_trip(hub, tiny, get):
    hub.delay = 0.1
    started = time.monotonic()
    assert get("model.safetensors").body == WEIGHTS
    assert time.monotonic() - started >= 0.2  # the hub's own answer, and then the CDN's


def test_stopping_waits_for_no_round_trip():
    with Hub() as hub:
        hub.create("org/tiny", FILES)
        hub.delay = 600
        connection = http.client.HTTPConnection(hub.endpoint.removeprefix("http://"), timeout=600)
        connection.request("GET", "/api/models/org/tiny")
    with pytest.raises(OSError):  # noqa: PT011 - however the connection ends
        connection.getresponse()
    connection.close()


def test_the_rate_can_change(hub, tiny, get):
    hub.rate = 1
    hub.rate = None
    assert get("model.safetensors").body == WEIGHTS  # which otherwise would take days


def test_many_threads_see_a_consistent_log(hub, tiny, get):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: get("model.safetensors"), range(40)))
    assert hub.requests.bytes_sent == 40 * len(WEIGHTS)
    assert len(hub.requests) == 80


def test_a_port_is_its_own_also_while_it_is_stopped():
    """Else another server of a busy machine may get it before it comes back."""
    hub = Hub()
    hub.start()
    ports = [hub._hub_port.number, hub._cdn_port.number]
    hub.stop()
    for port in ports:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        with pytest.raises(OSError, match="in use"):
            socket.create_server(("127.0.0.1", port))
    hub.start()
    assert ports == [hub._hub_port._listener.server_address[1], hub._cdn_port.number]
    hub.stop()


def test_a_port_can_be_chosen():
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # nobody else gets it meanwhile
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        with Hub(port=port) as hub:
            assert hub.endpoint == f"http://127.0.0.1:{port}"
