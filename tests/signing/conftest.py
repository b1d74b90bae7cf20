from __future__ import annotations

import shutil

import pytest
from signingkit import Result, Weights

from archiver.cli.main import invoke


@pytest.fixture(scope="session")
def pristine(tmp_path_factory):
    """An archive of two small repositories."""
    root = tmp_path_factory.mktemp("signing")
    archive = root / "weights"
    assert invoke(["init", "-q", "-C", str(archive)]) == 0
    for name in ("one", "two"):
        folder = root / name
        folder.mkdir()
        (folder / "config.json").write_text(f'{{"name": "{name}"}}')
        (folder / "weights.bin").write_bytes(name.encode() * 3000)
        args = ["import", "-q", "-C", str(archive), str(folder), "--as", f"Org/{name}"]
        assert invoke([*args, "--min-free", "0B"]) == 0
    return root


@pytest.fixture
def weights(pristine, tmp_path):
    return Weights(shutil.copytree(pristine / "weights", tmp_path / "weights", symlinks=True))


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch):
    monkeypatch.setenv("ARCHIVER_DEBUG", "1")
    for name in ("ARCHIVER_KEY_PASSWORD", "ARCHIVER_ARCHIVE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def run(capfd):
    """Run a command in this process; its output is JSON lines."""

    def call(*args):
        capfd.readouterr()
        code = invoke(["--json", "-q", *(str(one) for one in args)])
        return Result(code, *capfd.readouterr())

    return call


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
