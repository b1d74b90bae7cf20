"""What the server holds in memory does not depend on how many read, how slowly, or for how long."""

from __future__ import annotations

import random
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from kit.cli import invoke
from kit.repository import noise, write_folder
from kit.served import served

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kit.served import Server

MB = 1 << 20
CACHE = 48 * MB
CLIENTS = 50
EACH = 2 * MB
"""What a connection may take that a file is sent on: see ``docs/serve.md``."""
ELSE = 64 * MB
"""Two threads that decode, the index of the packs, and what the C library holds back."""
WEIGHTS = noise(7, 8 * 16 * MB + 12345)
FILE = "/org/large/resolve/main/weights.bin"


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("large")
    files = {"weights.bin": WEIGHTS, "config.json": b"{}", "README.md": b"# Large\n"}
    model = write_folder(folder / "model", files)
    assert invoke("init", "-q", "-C", folder / "archive") == 0
    words = ("import", "-q", "-C", folder / "archive", model, "--as", "org/large")
    assert invoke(*words, "--min-free", "0B") == 0
    return folder / "archive"


@pytest.fixture
def server(archive) -> Iterator[Server]:
    with served(archive, "--cache", f"{CACHE}B") as running:
        assert running.ask("/org/large/resolve/main/config.json").body == b"{}"
        yield running


def memory(server: Server, what: str) -> int:
    """Bytes that the server's process has (``VmRSS``), or had at most (``VmHWM``)."""
    status = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    (line,) = (line for line in status if line.startswith(f"{what}:"))
    return int(line.split()[1]) * 1024


def part(server: Server, begin: int, end: int) -> bool:
    answer = server.ask(FILE, {"Range": f"bytes={begin}-{end - 1}"})
    return answer.status == 206 and answer.body == WEIGHTS[begin:end]


def dawdle(server: Server, begin: int) -> socket.socket:
    """Ask for all of the file from a place on, and take only its first bytes."""
    client = socket.create_connection(("127.0.0.1", server.port))
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 256 << 10)
    request = f"GET {FILE} HTTP/1.1\r\nHost: localhost\r\nRange: bytes={begin}-\r\n\r\n"
    client.sendall(request.encode())
    client.settimeout(60)
    assert client.recv(1024).startswith(b"HTTP/1.1 206")
    return client


def take(client: socket.socket) -> bytes:
    """Take 3 MiB more; the last of these bytes."""
    got = bytearray()
    while len(got) < 3 * MB:
        got += client.recv(MB)
    return bytes(got[-1000:])


def test_fifty_clients_at_once_take_the_cache_and_a_piece_each(server):
    before = memory(server, "VmHWM")
    chance = random.Random(1)
    begins = [chance.randrange(len(WEIGHTS) - 6 * MB) for _ in range(CLIENTS)]
    with ThreadPoolExecutor(CLIENTS) as clients:
        slow = list(clients.map(lambda begin: dawdle(server, begin), begins[: CLIENTS // 2]))
        try:
            fast = begins[CLIENTS // 2 :]
            assert all(clients.map(lambda begin: part(server, begin, begin + 5 * MB), fast))
            # Who dawdled is served on.
            ends = clients.map(take, slow)
            assert all(
                WEIGHTS.find(end, begin) > 0 for end, begin in zip(ends, begins, strict=False)
            )
        finally:
            for client in slow:
                client.close()
    assert memory(server, "VmHWM") <= before + CACHE + CLIENTS * EACH + ELSE


def test_a_day_of_requests_leaves_memory_as_it_was(server):
    chance = random.Random(2)

    def request(number: int) -> bool:
        kind = number % 8
        if kind < 3:
            begin = chance.randrange(len(WEIGHTS))
            return part(server, begin, min(len(WEIGHTS), begin + chance.randrange(1, MB)))
        if kind == 3:
            dawdle(server, chance.randrange(len(WEIGHTS) - MB)).close()
            return True
        if kind == 4:
            return server.ask("/org/large/resolve/main/nothing.bin").status == 404
        path = ("/api/models", "/api/models/org/large", "/org/large/resolve/main/README.md")[
            kind - 5
        ]
        return server.ask(path).status == 200

    with ThreadPoolExecutor(8) as clients:
        assert all(clients.map(request, range(160)))
        before = memory(server, "VmRSS")
        assert all(clients.map(request, range(480)))
    assert memory(server, "VmRSS") <= before + 24 * MB
