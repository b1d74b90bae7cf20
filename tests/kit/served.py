"""An archive that is served by ``archiver serve`` in a process of its own."""

from __future__ import annotations

import http.client
import os
import signal
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

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Send it a signal; return its exit code and what it wrote to stderr."""
        self.process.send_signal(number)
        _, err = self.process.communicate(timeout=120)
        return self.process.returncode, err

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


HASTY = (
    "import sys; from archiver.web import server; "
    "server.Deadlines.__init__.__defaults__ = ({scale},); "
    "from archiver.__main__ import main; main()"
)
"""The program, for a server whose clients may take only a part of the time."""


@contextmanager
def served(
    archive: Path, *words: object, env: dict[str, str] | None = None, scale: float = 0
) -> Iterator[Server]:
    """Serve an archive at a free port until the end of the block; ``scale``: see `HASTY`."""
    program = ["-c", HASTY.format(scale=scale)] if scale else ["-m", "archiver"]
    command = [sys.executable, *program, "serve", "-C", str(archive), "--port", "0"]
    process = subprocess.Popen(
        [*command, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"} | (env or {}),
    )
    try:
        assert process.stdout
        yield Server(process.stdout.readline().strip(), process)
    finally:
        process.kill()
        _, err = process.communicate()
        assert "Traceback" not in err, err
