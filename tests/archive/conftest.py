from pathlib import Path

import pytest

from archiver.archive.archive import Archive


@pytest.fixture
def root(tmp_path) -> Path:
    return tmp_path / "archive"


@pytest.fixture
def archive(root) -> Archive:
    return Archive.create(root)
