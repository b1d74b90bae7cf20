from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from prunekit import filled

_MEMORY = Path("/dev/shm")


@pytest.fixture
def root(tmp_path):
    return tmp_path / "archive"


@pytest.fixture
def archive(root):
    return filled(root)


@pytest.fixture
def quick(tmp_path):
    """A folder in memory, where that is possible: thousands of archives are made in it."""
    made = tempfile.mkdtemp(dir=_MEMORY if _MEMORY.is_dir() else tmp_path)
    yield Path(made)
    shutil.rmtree(made)


@pytest.fixture
def run(run, root, archive):
    """Run a command on the archive, with JSON lines; the exit code and the records."""

    def call(name, *arguments):
        result = run(name, "-q", "--json", "-C", root, *arguments)
        return result.code, result.records

    return call
