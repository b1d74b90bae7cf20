"""Connections by TLS: their records are passed on together, and every byte of them is watched."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from pathlib import Path
from select import select

import httpx2
import pytest
from kit.repository import noise

from archiver.upstream.body import Body
from archiver.upstream.deadlines import LeastRate, Patience, timed
from archiver.upstream.http import Answer
from archiver.upstream.read_watches import watching

CERTIFICATE = Path(__file__).parent / "data" / "loopback.pem"
"""Of 127.0.0.1, with its key: nobody else may trust it."""
RECORD = 16 << 10
BODY = noise(0, 12 * RECORD + 5)


class Seen:
    """A watch that counts."""

    def __init__(self):
        self.bytes = 0

    def left(self):
        return 600.0

    def note(self, _seconds, count):
        self.bytes += count


@pytest.fixture
def serve():
    """Serves one answer, whatever is asked: returns its address, and when all of it was sent."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    listener = socket.create_server(("127.0.0.1", 0))
    sent = threading.Event()

    def serving(length: int) -> None:
        accepted, _ = listener.accept()
        with context.wrap_socket(accepted, server_side=True) as connection:
            connection.recv(RECORD)
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"
            connection.sendall(head.encode())
            connection.sendall(BODY)
            sent.set()

    def start(length: int = len(BODY)) -> str:
        thread = threading.Thread(target=serving, args=(length,))
        thread.start()
        threads.append(thread)
        return f"https://127.0.0.1:{listener.getsockname()[1]}/"

    threads: list[threading.Thread] = []
    yield start, sent
    for thread in threads:
        thread.join()
    listener.close()


@pytest.fixture
def client():
    trusting = ssl.create_default_context(cafile=str(CERTIFICATE))
    with httpx2.Client(verify=trusting) as made:
        yield timed(made, time.monotonic)


def read_into(got: bytearray, response: httpx2.Response) -> None:
    for chunk in response.iter_raw():
        got += chunk


def test_records_are_passed_on_together(serve, client):
    start, sent = serve
    watch = Seen()
    with watching(watch), client.stream("GET", start()) as response:
        assert sent.wait(600)
        chunks = list(response.iter_raw())
    assert b"".join(chunks) == BODY
    assert len(chunks) <= 8
    assert watch.bytes > len(BODY)


def test_a_body_that_ends_too_early_is_told_by_the_next_read(serve, client):
    start, sent = serve
    got = bytearray()
    with client.stream("GET", start(len(BODY) + 1)) as response:
        assert sent.wait(600)
        with pytest.raises(httpx2.RemoteProtocolError):
            read_into(got, response)
    assert bytes(got) == BODY


def body_of(response: httpx2.Response) -> Body:
    answer = Answer(200, response.headers, response.headers, response, "HF_ENDPOINT")
    return Body(answer, LeastRate(Patience()), 600.0)


def test_records_go_into_the_memory_of_whoever_asks(serve, client, read):
    start, sent = serve
    with client.stream("GET", start()) as response:
        assert sent.wait(600)
        assert read(body_of(response), 5 * RECORD) == BODY
        assert response.num_bytes_downloaded <= len(BODY) // 2


@pytest.fixture
def proxy():
    """A proxy that is spoken to by TLS, for one connection: returns its address."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    listener = socket.create_server(("127.0.0.1", 0))

    def serving() -> None:
        accepted, _ = listener.accept()
        with context.wrap_socket(accepted, server_side=True) as client:
            host, port = client.recv(RECORD).split()[1].decode().split(":")
            with socket.create_connection((host, int(port))) as server:
                client.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
                passing(client, server)

    def passing(client: ssl.SSLSocket, server: socket.socket) -> None:
        """Pass on what either says, until the server hangs up."""
        while True:
            ready = [client] if client.pending() else select([client, server], [], [])[0]
            for source, target in ((client, server), (server, client)):
                if source in ready:
                    data = source.recv(RECORD)
                    if not data:
                        return
                    target.sendall(data)

    thread = threading.Thread(target=serving)
    thread.start()
    yield f"https://127.0.0.1:{listener.getsockname()[1]}"
    thread.join()
    listener.close()


def test_tls_within_the_tls_of_a_proxy_is_left_alone(serve, proxy):
    """What lies on the socket there is the records within, which are not the body."""
    start, sent = serve
    trusting = ssl.create_default_context(cafile=str(CERTIFICATE))
    through = httpx2.Proxy(proxy, ssl_context=trusting)
    got = bytearray()
    with httpx2.Client(verify=trusting, proxy=through) as made:
        client = timed(made, time.monotonic)
        with client.stream("GET", start()) as response:
            assert sent.wait(600)
            body, buffer = body_of(response), memoryview(bytearray(RECORD))
            while count := body.readinto(buffer):
                got += buffer[:count]
    assert bytes(got) == BODY
