"""An archive of a few repositories with a history, served once for each file of tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hubkit import History, build
from kit.served import Server, served

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def history(tmp_path_factory) -> History:
    return build(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def server(history) -> Iterator[Server]:
    with served(history.archive) as running:
        yield running
