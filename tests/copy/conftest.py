from __future__ import annotations

from datetime import UTC, datetime

import pytest
from copykit import fill_archive


@pytest.fixture(scope="session")
def pristine(tmp_path_factory):
    """An archive of two repositories, each in a pack of its own."""
    return fill_archive(tmp_path_factory.mktemp("copy"), {"org/one": 1, "org/two": 2})


@pytest.fixture(scope="session")
def foreign(tmp_path_factory):
    """Another archive with a repository of its own."""
    return fill_archive(tmp_path_factory.mktemp("foreign"), {"else/three": 3})


@pytest.fixture
def source(pristine, tmp_path):
    return pristine.copied(tmp_path / "source")


@pytest.fixture
def target(tmp_path):
    """Where to copy to; nothing is there yet."""
    return tmp_path / "target"


@pytest.fixture
def copy(run, source, target):
    """Copy the source to the target, as JSON lines; a new replica where no archive is, unless told."""

    def call(*arguments, to=target, of=source, new=None):
        made = not (to / "archive.json").exists() if new is None else new
        words = [*(["--new"] if made else []), "--min-free", "0", *arguments]
        return run("copy", "-q", "--json", "-C", of.root, to, *words)

    return call


@pytest.fixture
def restored(run, tmp_path):
    """Restore a repository and compare every byte of every file."""
    count = 0

    def check(root, repository, folder):
        nonlocal count
        count += 1
        out = tmp_path / f"restored{count}"
        assert run("restore", "-q", "-C", root, repository, out).code == 0
        for path in folder.iterdir():
            assert (out / path.name).read_bytes() == path.read_bytes()

    return check


@pytest.fixture
def one_second(monkeypatch):
    """All that a test does lies within one second, however long it takes."""
    now = datetime.now(UTC)

    class Stopped(datetime):
        @classmethod
        def now(cls, tz=None):
            return now.astimezone(tz)

    monkeypatch.setattr("archiver.text.datetime", Stopped)
