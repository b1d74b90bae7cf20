"""The stores that the conformance suite runs on."""

import errno
import os
from pathlib import Path

import pytest
from kit.store import Faulty, Remote

from archiver.storage.local import LocalStore


@pytest.fixture
def root(tmp_path) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    return folder


def local_without_links(root, monkeypatch):
    """A filesystem that has no hard links."""

    def link(*_arguments, **_named):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", link)
    return LocalStore(root)


STORES = {
    "local": lambda root, _: LocalStore(root),
    "local without links": local_without_links,
    "remote": lambda root, _: Remote(LocalStore(root)),
    "faulty without a fault": lambda root, _: Faulty(LocalStore(root)),
}
"""Another store is one more line here."""


@pytest.fixture(params=STORES)
def store(request, root, monkeypatch):
    return STORES[request.param](root, monkeypatch)
