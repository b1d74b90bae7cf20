from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from diskkit import Disk, compiled
from kit.repository import files_below

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def library(tmp_path_factory) -> Path:
    return compiled(tmp_path_factory.mktemp("refusals"))


@pytest.fixture
def disk(tmp_path, library) -> Disk:
    """The archive's disk; the archive is ``disk.root``, and there is none yet."""
    return Disk(tmp_path / "disk" / "archive", library)


@pytest.fixture
def model(tmp_path) -> Path:
    """A folder with a model's files."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "weights.bin").write_bytes(random.Random(1).randbytes(200_000))
    (folder / "config.json").write_text("{}")
    return folder


@pytest.fixture
def whole_life(disk, model, tmp_path):
    """Everything that a person does with an archive, on a disk that refuses calls."""

    def live(refuse: dict[str, int], **more) -> set[str]:
        """Live it; the calls that were refused on the way."""
        out = tmp_path / "out"
        refused = set()
        for words in (
            ("init", "-C", disk.root),
            ("import", "-C", disk.root, model, "--as", "org/model", "--min-free", "0"),
            ("stats", "-C", disk.root),
            ("audit", "-C", disk.root),
            ("repair", "-C", disk.root),
            ("restore", "-C", disk.root, "org/model", out),
            ("forget", "-C", disk.root, "org/model"),
            ("prune", "-C", disk.root),
        ):
            done = disk.run(words[0], "-q", *words[1:], refuse=refuse, **more)
            assert done.code == 0, (words, done)
            refused |= disk.refused()
        assert files_below(out) == files_below(model)
        return refused

    return live
