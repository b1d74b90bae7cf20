from __future__ import annotations

import pytest
from bundlekit import LARGE, SIZE, SMALL, linked, make
from kit.repository import files_below


@pytest.fixture(scope="session")
def carried(tmp_path_factory):
    """An archive; tests only read it."""
    return make(tmp_path_factory.mktemp("carried"))


@pytest.fixture(autouse=True)
def small_volumes(monkeypatch):
    """Volumes may be so small that a few megabytes take several."""
    monkeypatch.setattr("archiver.operations.bundle.export.VOLUME_LEAST", 1)


@pytest.fixture
def export(run, carried):
    """Export both repositories, or what is named, to a folder."""

    def call(to, *words, references=(LARGE, SMALL), of=carried, size=SIZE):
        return run(
            *("bundle", "export", "-q", "--json", "-C", of.root, *references),
            *("--to", to, "--volume-size", size, *words),
        )

    return call


@pytest.fixture(scope="session")
def pristine(carried, tmp_path_factory):
    """The volumes of a bundle of both, with parity; tests work on links to them."""
    from kit.cli import invoke

    to = tmp_path_factory.mktemp("bundle")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("archiver.operations.bundle.export.VOLUME_LEAST", 1)
        words = ["--to", to, "--volume-size", SIZE, "--parity", "2"]
        assert invoke("bundle", "export", "-q", "-C", carried.root, LARGE, SMALL, *words) == 0
    return to


@pytest.fixture
def media(pristine, tmp_path):
    """The volumes, to be damaged."""
    return linked(pristine, tmp_path / "media")


@pytest.fixture
def far(tmp_path):
    """Where the archive on the other side lies; nothing is there yet."""
    return tmp_path / "far"


@pytest.fixture
def bring(run, far):
    """Import volumes into the far archive, which is begun with the first."""

    def call(*paths, words=()):
        new = () if (far / "archive.json").exists() else ("--new",)
        return run(
            *("bundle", "import", "-q", "--json", "-C", far, *new, "--min-free", "0", *words),
            *paths,
        )

    return call


@pytest.fixture
def same(run, tmp_path, carried):
    """Restore from an archive and compare every byte."""
    count = 0

    def check(root, *repositories):
        nonlocal count
        for repository in repositories or (LARGE, SMALL):
            count += 1
            out = tmp_path / f"restored{count}"
            assert run("restore", "-q", "-C", root, repository, out).code == 0
            assert files_below(out) == files_below(carried.model(repository))

    return check
