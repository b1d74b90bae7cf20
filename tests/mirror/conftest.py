from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _own_hub(monkeypatch, home, hub):
    """Whatever a test does, it meets this hub and no other."""
    monkeypatch.setenv("HF_HOME", str(home / "hf"))
