from __future__ import annotations

import pytest
from exportkit import described_model
from kit.repository import REPO


@pytest.fixture(autouse=True)
def _own_hub(monkeypatch, home, hub):
    """Whatever a test does, it meets this hub and no other."""
    monkeypatch.setenv("HF_HOME", str(home / "hf"))


@pytest.fixture
def held(hub, mirror):
    """The archive holds org/model, whose card and config.json say what it is."""
    files = described_model()
    hub.create(REPO, files)
    assert mirror().code == 0
    return files


@pytest.fixture
def layout(tmp_path):
    """Where a layout is written to."""
    return tmp_path / "layout"


@pytest.fixture
def export(cli, archive, layout):
    """Export org/model into the layout."""

    def run(*words, reference=REPO, to=layout):
        return cli("export", "-C", archive, reference, "--oci", to, *words)

    return run
