from __future__ import annotations

import shutil
from functools import partial

import pytest
from kit.cli import invoke
from signingkit import Weights


@pytest.fixture(scope="session")
def pristine(tmp_path_factory):
    """An archive of two small repositories."""
    root = tmp_path_factory.mktemp("signing")
    archive = root / "weights"
    assert invoke("init", "-q", "-C", archive) == 0
    for name in ("one", "two"):
        folder = root / name
        folder.mkdir()
        (folder / "config.json").write_text(f'{{"name": "{name}"}}')
        (folder / "weights.bin").write_bytes(name.encode() * 3000)
        args = ["import", "-q", "-C", str(archive), str(folder), "--as", f"Org/{name}"]
        assert invoke(*args, "--min-free", "0B") == 0
    return root


@pytest.fixture
def weights(pristine, tmp_path):
    return Weights(shutil.copytree(pristine / "weights", tmp_path / "weights", symlinks=True))


@pytest.fixture
def run(run):
    """Run a command in this process; its output is JSON lines."""
    return partial(run, "--json", "-q")


@pytest.fixture
def key(run, tmp_path):
    """A pair of keys without a password: mine.key and mine.pub."""
    assert run("keys", "new", tmp_path / "mine", "--no-password").code == 0
    return tmp_path / "mine.key"


@pytest.fixture
def sign(run, weights, key):
    def call(*args):
        return run("sign", "-C", weights.root, "--key", key, *args)

    return call


@pytest.fixture
def head(run, weights):
    def call(*args):
        return run("head", "-C", weights.root, *args)

    return call
