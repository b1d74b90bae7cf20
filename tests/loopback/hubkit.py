"""What the tests of the loopback hub share besides fixtures: a small repository, raw requests."""

from __future__ import annotations

import http.client
from dataclasses import dataclass
from urllib.parse import urlsplit

WEIGHTS = bytes(range(256)) * 4096
FILES = {
    "config.json": b'{"model_type": "tiny"}\n',
    "README.md": b"# tiny\n" * 300,
    "model.safetensors": WEIGHTS,
    "onnx/config.json": b"{}",
    "onnx/deep/model.onnx": b"onnx" * 100,
}


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes


def request(url: str, method: str = "GET", *, timeout: float = 600, **headers: str) -> Answer:
    """One raw request on a connection of its own, redirects not followed."""
    at = urlsplit(url)
    connection = http.client.HTTPConnection(at.hostname or "", at.port, timeout=timeout)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        connection.request(method, url.removeprefix(f"http://{at.netloc}"), headers=named)
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
    finally:
        connection.close()
