from __future__ import annotations

import pytest
from statuskit import Answer, fill


@pytest.fixture(scope="session")
def filled(tmp_path_factory):
    return fill(tmp_path_factory.mktemp("status") / "weights")


@pytest.fixture
def root(filled, tmp_path):
    import shutil

    return shutil.copytree(filled, tmp_path / "weights")


@pytest.fixture
def ask(root, run):
    """Run a command on the archive."""

    def call(*words):
        return Answer(*run("-C", root, *words))

    return call
