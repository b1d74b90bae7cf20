from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "commands_audit"))
sys.path.append(str(Path(__file__).parents[1] / "formats"))

import pytest
from auditkit import Weights, write_model
from kit.cli import invoke


@pytest.fixture(scope="session")
def pristine(tmp_path_factory):
    """An archive of two repositories, each in a pack of its own."""
    root = tmp_path_factory.mktemp("hostile")
    archive = root / "weights"
    assert invoke("init", "-q", "-C", archive) == 0
    for seed, (name, rows) in enumerate((("one", 4), ("two", 6))):
        folder = write_model(root / name, seed * 10, rows)
        args = ["import", "-q", "-C", str(archive), str(folder), "--as", f"org/{name}"]
        assert invoke(*args, "--min-free", "0B") == 0
    return Weights(archive)


@pytest.fixture
def weights(pristine, tmp_path):
    return pristine.copy(tmp_path / "weights")
