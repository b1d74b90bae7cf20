from __future__ import annotations

import os
from typing import TYPE_CHECKING

# Read by huggingface_hub when it is imported: downloads go over plain HTTP.
os.environ["HF_HUB_DISABLE_XET"] = "1"

import pytest
from e2ekit import REPO, Result, checked, files_below, model
from zygote import Zygote

from archiver.cli.main import invoke
from archiver.loopback import Hub
from archiver.upstream.retry import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_FOREIGN = (
    *("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"),
    *("ARCHIVER_ARCHIVE", "ARCHIVER_TIMEOUT", "ARCHIVER_DEBUG", "XDG_CACHE_HOME"),
)


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as running:
        yield running


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch, tmp_path, hub):
    from huggingface_hub import constants

    for name in _FOREIGN:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home" / "hf"))
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)


@pytest.fixture
def waits(monkeypatch) -> list[float]:
    """What the retries would have waited, in seconds; nobody does."""
    noted: list[float] = []
    monkeypatch.setattr(
        RetryPolicy,
        "wait",
        lambda self, n, asked=None, **_: noted.append(self.delay(n, asked)) or 0.0,
    )
    return noted


@pytest.fixture
def cli(capsys) -> Callable[..., Result]:
    """Runs a command in this process; no error may come as a traceback."""

    def run(*arguments: object) -> Result:
        capsys.readouterr()
        code = invoke([str(one) for one in arguments])
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
