"""The stores that the conformance suite runs on."""

from pathlib import Path

import pytest

from archiver.storage.local import LocalStore


@pytest.fixture
def root(tmp_path) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    return folder


@pytest.fixture(params=["local"])
def store(request, root):
    """Another store is one more parameter here."""
    return {"local": LocalStore}[request.param](root)
