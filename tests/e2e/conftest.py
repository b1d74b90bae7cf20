from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from e2ekit import REPO, checked, model
from kit.cli import Result, invoke
from kit.repository import files_below
from kit.zygote import Zygote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _own_hub(monkeypatch, home, hub):
    """Whatever a test does, it meets this hub and no other."""
    monkeypatch.setenv("HF_HOME", str(home / "hf"))


@pytest.fixture
def cli(capsys) -> Callable[..., Result]:
    """Runs a command in this process; no error may come as a traceback."""

    def run(*arguments: object) -> Result:
        capsys.readouterr()
        code = invoke(*arguments)
        return checked(code, *capsys.readouterr())

    return run


@pytest.fixture
def archive(tmp_path, cli) -> Path:
    """A new archive."""
    folder = tmp_path / "archive"
    assert cli("init", "-C", folder).code == 0
    return folder


@pytest.fixture
def mirror(cli, archive, waits) -> Callable[..., Result]:
    """Mirrors org/model, or what is given, into the archive."""

    def run(*arguments: object) -> Result:
        named = any("/" in str(one) for one in arguments)
        return cli("mirror", "-C", archive, *(() if named else (REPO,)), *arguments)

    return run


@pytest.fixture
def restores(cli, tmp_path) -> Callable[..., None]:
    """Restores a repository and compares every byte of every file."""
    count = 0

    def check(archive: Path, files: dict[str, bytes], reference: str = REPO) -> None:
        nonlocal count
        count += 1
        out = tmp_path / f"restored{count}"
        assert cli("restore", "-C", archive, reference, out).code == 0
        assert files_below(out) == files

    return check


@pytest.fixture
def served(hub) -> dict[str, bytes]:
    """The hub holds org/model with these files."""
    files = model()
    hub.create(REPO, files)
    return files


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    """Starts commands as processes of their own, without the seconds that imports take."""
    with Zygote() as started:
        yield started
