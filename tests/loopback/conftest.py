from __future__ import annotations

import http.client
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

# Read by huggingface_hub when it is imported: downloads go over plain HTTP, and say nothing.
os.environ["HF_HUB_DISABLE_XET"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ["HF_HUB_DISABLE_IMPLICIT_TOKEN"] = "1"

import pytest

from archiver.loopback import Hub

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from huggingface_hub import HfApi

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


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as hub:
        yield hub


@pytest.fixture
def tiny(hub: Hub) -> str:
    hub.create("org/tiny", FILES, card={"license": "apache-2.0"})
    return "org/tiny"


@pytest.fixture
def api(hub: Hub) -> HfApi:
    from huggingface_hub import HfApi

    return HfApi(endpoint=hub.endpoint, token=False)


def request(url: str, method: str = "GET", *, timeout: float = 5, **headers: str) -> Answer:
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


@pytest.fixture
def ask(hub: Hub) -> Callable[..., Answer]:
    """Asks the hub for a path, or another address for all of it."""

    def asking(path: str, method: str = "GET", *, timeout: float = 5, **headers: str) -> Answer:
        url = path if path.startswith("http") else hub.endpoint + path
        return request(url, method, timeout=timeout, **headers)

    return asking


@pytest.fixture
def get(ask: Callable[..., Answer]) -> Callable[..., Answer]:
    """Gets a file of org/tiny, following the one redirect to the CDN."""

    def getting(file: str, **headers: str) -> Answer:
        answer = ask(f"/org/tiny/resolve/main/{quote(file)}", **headers)
        return ask(answer.headers["Location"], **headers) if answer.status == 302 else answer

    return getting
