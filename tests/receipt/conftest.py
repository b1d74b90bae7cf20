from __future__ import annotations

from contextlib import contextmanager
from datetime import timedelta

import pytest
from kit.disks import memory_disk
from receiptkit import Sides, home_archive

from archiver import text


@pytest.fixture(scope="session")
def sent(tmp_path_factory):
    """An archive of two repositories; tests work on copies of it."""
    return home_archive(tmp_path_factory.mktemp("sent"))


@pytest.fixture
def far_disk(tmp_path):
    """Another disk, for the far side."""
    with memory_disk(tmp_path / "far-disk", 64 << 20) as disk:
        yield disk


@pytest.fixture
def sides(run, sent, tmp_path, far_disk) -> Sides:
    """Home, and the far side into which a bundle of home's first repository came; home trusts its key."""
    sides = Sides(run, tmp_path, far_disk, sent)
    sides.key("far")
    sides.at_home("policy", "set", "--copies", "2", "--trust", sides.folder / "far.pub")
    sides.carry("org/one", words=("--new",))
    return sides


@pytest.fixture
def later(monkeypatch):
    """Let so many days go by, or the clock be wrong by so many."""

    @contextmanager
    def call(days):
        machine = text._machine_clock
        with monkeypatch.context() as patch:
            patch.setattr(text, "_machine_clock", lambda: machine() + timedelta(days=days))
            yield

    return call
