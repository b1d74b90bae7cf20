import pytest

from archiver.archive.archive import Archive


@pytest.fixture
def archive(tmp_path):
    return Archive.create(tmp_path / "weights")


@pytest.fixture(scope="session")
def shared_archive(tmp_path_factory):
    """An archive for examples that each bring their own file."""
    return Archive.create(tmp_path_factory.mktemp("parity") / "weights")
