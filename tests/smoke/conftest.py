"""Small models in the true layout, each written once a session, and an archive that holds them all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import smokekit

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> smokekit.Models:
    return smokekit.Models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def copy_of(models: smokekit.Models, tmp_path: Path) -> smokekit.Copies:
    """A model that a test may spoil."""
    return smokekit.Copies(models, tmp_path)
