from __future__ import annotations

import pytest
from statuskit import Answer, fill

from archiver.cli.main import invoke


@pytest.fixture(scope="session")
def filled(tmp_path_factory):
    return fill(tmp_path_factory.mktemp("status") / "weights")


@pytest.fixture
def root(filled, tmp_path):
    import shutil

    return shutil.copytree(filled, tmp_path / "weights")


@pytest.fixture
def ask(root, capfd, monkeypatch):
    """Run a command on the archive."""
    monkeypatch.setenv("ARCHIVER_DEBUG", "1")

    def call(*words):
        capfd.readouterr()
        code = invoke(["-C", str(root), *map(str, words)])
        return Answer(code, *capfd.readouterr())

    return call
