from __future__ import annotations

import pytest
from kit.archive import of_two_models


@pytest.fixture(scope="session")
def pristine(tmp_path_factory):
    """An archive of two repositories, each in a pack of its own."""
    return of_two_models(tmp_path_factory.mktemp("audit"), (40, 60))


@pytest.fixture
def weights(pristine, tmp_path):
    return pristine.copy(tmp_path / "weights")


@pytest.fixture
def audit(run, weights):
    """Audit the damageable archive, as JSON lines."""

    def call(*args):
        return run("audit", "-q", "--json", "-C", weights.root, *args)

    return call
