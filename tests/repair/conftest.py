from __future__ import annotations

import pytest
from kit.archive import copy
from kit.cli import invoke
from kit.repository import write_folder
from repairkit import ONE, TWO, model


@pytest.fixture(scope="session")
def models():
    return {ONE: model(10), TWO: model(20)}


@pytest.fixture(scope="session")
def pristine(tmp_path_factory, models):
    """An archive of two repositories, each in a pack of its own, with one object shared."""
    root = tmp_path_factory.mktemp("repair")
    archive = root / "weights"
    assert invoke("init", "-q", "-C", archive) == 0
    for name, files in models.items():
        folder = write_folder(root / name, files)
        args = ["import", "-q", "-C", str(archive), str(folder), "--as", name]
        assert invoke(*args, "--min-free", "0B", "--effort", "fast") == 0
    return archive


@pytest.fixture
def weights(pristine, tmp_path):
    """The archive to damage."""
    return copy(pristine, tmp_path / "weights")


@pytest.fixture
def replica(pristine, tmp_path):
    """Another copy of it."""
    return copy(pristine, tmp_path / "replica")


@pytest.fixture
def repair(run, weights):
    def call(*args, root=weights):
        return run("repair", "-q", "--json", "--no-upstream", "-C", root, *args)

    return call


@pytest.fixture
def sound(run, tmp_path, models):
    """Audits the archive, and restores and compares every byte."""
    count = 0

    def check(root, names=(ONE, TWO)):
        nonlocal count
        audit = run("audit", "-q", "--json", "-C", root)
        assert audit.code == 0, audit.out
        for name in names:
            count += 1
            out = tmp_path / f"restored{count}"
            assert run("restore", "-q", "-C", root, name, out).code == 0
            assert {path.name: path.read_bytes() for path in out.iterdir()} == models[name]

    return check


@pytest.fixture
def hub(hub, home, waits, monkeypatch):
    """A hub that nobody waits for."""
    monkeypatch.setenv("HF_HOME", str(home / "hf"))
    return hub
