"""An archive of a few repositories with a history, served once for each file of tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from healthkit import Kept
from kit.served import Server, served
from servedkit import History, build

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def history(tmp_path_factory) -> History:
    return build(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def server(history) -> Iterator[Server]:
    with served(history.archive) as running:
        yield running


@pytest.fixture
def kept(tmp_path, monkeypatch) -> Kept:
    """An archive that got one repository a hundred days ago."""
    kept = Kept(tmp_path, monkeypatch)
    kept.at(100)
    kept.hold("org/one", 1)
    kept.at(0)
    return kept
