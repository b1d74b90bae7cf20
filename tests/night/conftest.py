"""For the tests of a night: a plan, an archive and a hub, and nights one after the other."""

from __future__ import annotations

import logging
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from kit.archive import Weights
from kit.repository import noise


@pytest.fixture
def archive(run, tmp_path):
    root = tmp_path / "weights"
    assert run("init", "-q", "-C", root).code == 0
    return Weights(root)


@pytest.fixture
def repositories(hub):
    """Three small repositories on the hub."""
    for seed, name in enumerate(("org/a", "org/b", "org/c")):
        hub.create(name, {"config.json": b"{}", "weights.bin": noise(seed, 30_000)})
    return hub


@pytest.fixture
def plan(tmp_path):
    """Writes a plan of these repositories; ``head``, ``entries`` and ``night`` are more of its TOML."""

    def write(*names, head="", entries="", night="", name="nightly"):
        text = f'[plan]\nname = "{name}"\n{head}\n'
        text += "".join(f'[[repository]]\nname = "{each}"\n' for each in names)
        text += entries
        text += f"[night]\n{night}\n" if night else ""
        folder = tmp_path / "plans"
        folder.mkdir(mode=0o755, exist_ok=True)
        path = folder / f"{name}.toml"
        path.write_text(text)
        path.chmod(0o644)
        return path

    return write


@pytest.fixture
def night(run, archive, waits):
    def call(*args):
        return run("night", "-q", "--json", "-C", archive.root, "--min-free", "0B", *args)

    return call


class Clock:
    """A clock that stands still until somebody moves it."""

    def __init__(self) -> None:
        self.now = datetime(2026, 12, 1, 1, 30, tzinfo=UTC)

    def forward(self, **more: float) -> None:
        self.now += timedelta(**more)


@pytest.fixture
def clock(monkeypatch):
    from archiver import text

    standing = Clock()
    monkeypatch.setattr(text, "_machine_clock", lambda: standing.now)
    return standing


@pytest.fixture
def readings():
    """Stored file -> how often it was opened, in all archives together, since somebody cleared this."""
    counts = Counter()

    class Noting(logging.Filter):
        def filter(self, record):
            if record.msg == "reading %s":
                counts[record.args[0]] += 1
            return False  # thousands of lines that pytest would keep, and nobody reads

    log, noting = logging.getLogger("archiver.storage.local"), Noting()
    before = log.level
    log.addFilter(noting)
    log.setLevel(logging.DEBUG)
    yield counts
    log.removeFilter(noting)
    log.setLevel(before)
