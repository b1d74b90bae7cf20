"""An archive that is served by ``archiver serve`` in a process of its own."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Reply(NamedTuple):
    """An answer: its status, its headers by lowercase names, its body."""

    status: int
    headers: dict[str, str]
    body: bytes


class Server(NamedTuple):
    """A running server."""

    endpoint: str
    process: subprocess.Popen

    @property
    def port(self) -> int:
        port = urlsplit(self.endpoint).port
        assert port
        return port

    def ask(
        self, path: str, headers: dict[str, str] | None = None, method: str = "GET", body: str = ""
    ) -> Reply:
        """Send a request on a connection of its own; the path goes out as it stands."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.putrequest(method, path, skip_host="Host" in (headers or {}))
            for name, value in (headers or {}).items():
                connection.putheader(name, value)
            if body:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body.encode() if body else None)
            answer = connection.getresponse()
            told = {name.lower(): value for name, value in answer.getheaders()}
            return Reply(answer.status, told, answer.read())
        finally:
            connection.close()


@contextmanager
def served(archive: Path, *words: object, env: dict[str, str] | None = None) -> Iterator[Server]:
    """Serve an archive at a free port until the end of the block."""
    command = [sys.executable, "-m", "archiver", "serve", "-C", str(archive), "--port", "0"]
    process = subprocess.Popen(
        [*command, *map(str, words)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"} | (env or {}),
    )
    try:
        assert process.stdout
        yield Server(process.stdout.readline().strip(), process)
    finally:
        process.terminate()
        try:
            process.wait(60)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
