from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from kit.repository import REPO
from watchkit import Nights

if TYPE_CHECKING:
    from pathlib import Path

START = datetime(2026, 12, 1, 2, tzinfo=UTC)


@pytest.fixture
def archive(tmp_path, run) -> Path:
    """A new archive."""
    folder = tmp_path / "archive"
    assert run("init", "-C", folder).code == 0
    return folder


@pytest.fixture
def nights(monkeypatch, run, archive, hub, waits) -> Nights:
    """Nights at two o'clock, each with a look at the hub; the clock is the test's own."""
    made = Nights(START, run, archive, hub)
    monkeypatch.setattr("archiver.text.wall_clock", lambda: made.now)
    return made


@pytest.fixture
def held(nights, served, run) -> Nights:
    """The same, with org/model held."""
    assert run("mirror", "-C", nights.archive, REPO).code == 0
    nights.now += timedelta(minutes=1)
    return nights
