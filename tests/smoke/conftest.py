"""Small models in the true layout, each written once a session, and an archive that holds them all."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import smokecli
import smokekit
import storedkit
from kit.zygote import Zygote

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from archiver.archive.archive import Archive

# Small products are not worth a second thread, and test processes that run beside each other would
# wait for each other's threads. torch reads this when it is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import huggingface_hub.constants  # noqa: F401 - before a smoke test sets HF_HUB_OFFLINE


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """A smoke test keeps its process offline; the tests that come after it talk to a hub."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> smokekit.Models:
    return smokekit.Models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def copy_of(models: smokekit.Models, tmp_path: Path) -> smokekit.Copies:
    """A model that a test may spoil."""
    return smokekit.Copies(models, tmp_path)


@pytest.fixture(scope="session")
def model_zygote() -> Iterator[Zygote]:
    """Starts commands without the seconds that importing the libraries takes."""
    with Zygote(smoke=True) as started:
        yield started


@pytest.fixture
def smoke(model_zygote: Zygote) -> smokecli.Command:
    return smokecli.Command(model_zygote)


@pytest.fixture(scope="session")
def stocked(models: smokekit.Models, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of several models; never to be changed."""
    root = tmp_path_factory.mktemp("stocked") / "weights"
    smokekit.archive_of(models("dense"), root)
    for name in ("minilm", "int4"):
        smokecli.put(root, models(name), f"me/{name}")
    smokecli.put(root, models("dense"), smokecli.PART, "--include", "*.json")
    return root


@pytest.fixture
def weights(stocked: Path, tmp_path: Path) -> Path:
    """That archive, for one test."""
    return smokecli.replica(stocked, tmp_path / "weights")


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model with a tensor of several segments and files that are refused, never to be changed."""
    return storedkit.write_model(tmp_path_factory.mktemp("made") / "made")


@pytest.fixture(scope="session")
def made_archive(made: Path) -> Archive:
    """An archive that holds it, never to be changed."""
    return smokekit.archive_of(made, made.parent / "weights")
