from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from hubkit import FILES, Answer, request

if TYPE_CHECKING:
    from collections.abc import Callable

    from huggingface_hub import HfApi

    from archiver.loopback.hub import Hub


@pytest.fixture
def tiny(hub: Hub) -> str:
    hub.create("org/tiny", FILES, card={"license": "apache-2.0"})
    return "org/tiny"


@pytest.fixture
def api(hub: Hub) -> HfApi:
    from huggingface_hub import HfApi

    return HfApi(endpoint=hub.endpoint, token=False)


@pytest.fixture
def ask(hub: Hub) -> Callable[..., Answer]:
    """Asks the hub for a path, or another address for all of it."""

    def asking(path: str, method: str = "GET", *, timeout: float = 600, **headers: str) -> Answer:
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
