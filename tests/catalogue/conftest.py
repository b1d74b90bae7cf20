from __future__ import annotations

import shutil

import pytest

from archiver.catalogue.database import Catalogue


@pytest.fixture(scope="session")
def blank(tmp_path_factory):
    """An up-to-date catalogue file without rows, made once."""
    path = tmp_path_factory.mktemp("blank") / "catalogue.sqlite"
    Catalogue.open(path).close()
    return path


@pytest.fixture
def path(blank, tmp_path):
    """A fresh catalogue file of the test's own."""
    return shutil.copy(blank, tmp_path / "catalogue.sqlite")


@pytest.fixture
def catalogue(path):
    with Catalogue.open(path) as opened:
        yield opened
