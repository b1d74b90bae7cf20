"""For all tests: nothing of whoever starts them or of this machine shows, and the fixtures of the kit."""

from __future__ import annotations

import itertools
import os
import signal
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from kit import processes
from kit.cli import Result, checked, invoke
from kit.repository import REPO, files_below, model
from kit.store import Faulty
from kit.zygote import Zygote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from archiver.loopback.hub import Hub
    from archiver.loopback.modelscope import ModelScopeHub

# A shell that runs the suite in the background has these ignored, and every child would inherit that:
# then nothing that a test interrupts would ever end.
for _number, _handler in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGHUP, signal.SIG_DFL),
    (signal.SIGTERM, signal.SIG_DFL),
):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _handler)

# Here and not in a fixture: those of a session or a module run commands too.
for _name in (
    *("ARCHIVER_ARCHIVE", "ARCHIVER_DEBUG", "ARCHIVER_KEY_PASSWORD", "ARCHIVER_TIMEOUT"),
    *("HF_ENDPOINT", "HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"),
    *("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "XDG_CACHE_HOME"),
    *("MODELSCOPE_API_TOKEN", "MODELSCOPE_DOMAIN", "MODELSCOPE_ENDPOINT"),
):
    os.environ.pop(_name, None)
# Read by huggingface_hub when it is imported: downloads go over plain HTTP, with no token.
os.environ["HF_HUB_DISABLE_XET"] = "1"
os.environ["HF_TOKEN_PATH"] = "/nonexistent/token"

_homes = itertools.count(1)

SECONDS_OF_A_TEST = 0.3
SECONDS = {
    "crash/test_crash_matrix.py": 100,
    "bundle/test_bundle_bare_machine.py": 60,
    "docs/test_docs_air_gap.py": 60,
    "docs/test_docs_tutorial.py": 100,
    "hostile/test_hostile_costs.py": 100,
    "model/test_archive_model.py": 100,
    "night/test_history.py": 100,
    "crash/test_failing_disk.py": 60,
    "mount/test_mounted_readers.py": 20,
    "mirror/test_mirror_kill.py": 60,
    "disks/test_real_disks.py": 50,
    "disks/test_several_users.py": 50,
    "prune/test_prune_beside_writers.py": 20,
    "smoke/test_smoke_architectures.py": 50,
    "web/test_pages_browser.py": 50,
    "crash/test_crash_mutants.py": 40,
    "disks/test_locales.py": 20,
    "e2e/test_operations_kill.py": 20,
    "formats/test_single_faults.py": 20,
    "prune/test_prune_killed.py": 20,
    "repair/test_repair_crash.py": 20,
    "smoke/test_smoke_public.py": 20,
    "web/test_serve_hostile.py": 40,
    "web/test_serve_models.py": 40,
}
"""Roughly what the files take whose tests are few and long; elsewhere a test takes a part of a second."""
for _name in SECONDS:
    assert (Path(__file__).parent / _name).is_file(), _name


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items) -> None:
    """Of several processes none is to sit idle while another goes through a long file: those come first."""
    if not hasattr(config, "workerinput"):
        return
    tests = Counter(item.path for item in items)
    seconds = {path: count * SECONDS_OF_A_TEST for path, count in tests.items()}
    seconds |= {path: SECONDS[name] for path in tests if (name := _name_of(path)) in SECONDS}
    # By path as well: two files of as many seconds must not mix.
    items.sort(key=lambda item: (-seconds[item.path], str(item.path)))


def _name_of(path: Path) -> str:
    return "/".join(path.parts[-2:])


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path_factory) -> Path:
    """A home of the test's own; it is there when somebody writes into it."""
    folder = tmp_path_factory.getbasetemp() / f"home-{next(_homes)}"
    monkeypatch.setenv("HOME", str(folder))
    return folder


@pytest.fixture(autouse=True)
def _no_process_outlives_a_test() -> Iterator[None]:
    """However a test ends: what it started must not be there in the tests that come after it."""
    yield
    processes.end_all()


@pytest.fixture
def run(capfd, monkeypatch) -> Callable[..., Result]:
    """Run a command in this process; an error that is no sentence is raised."""
    monkeypatch.setenv("ARCHIVER_DEBUG", "1")

    def call(*words: object) -> Result:
        capfd.readouterr()
        code = invoke(*words)
        return Result(code, *capfd.readouterr())

    return call


@pytest.fixture
def hub(monkeypatch) -> Iterator[Hub]:
    """A hub on the loopback, which commands take for the real one."""
    from archiver.loopback.hub import Hub

    with Hub() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.endpoint)
        yield running


@pytest.fixture
def modelscope(monkeypatch) -> Iterator[ModelScopeHub]:
    """A ModelScope on the loopback, which commands take for the real one."""
    from archiver.loopback.modelscope import ModelScopeHub

    with ModelScopeHub() as running:
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", running.endpoint)
        yield running


@pytest.fixture
def waits(monkeypatch) -> list[float]:
    """What retries would have waited, in seconds; nobody does."""
    from archiver.upstream.retry import RetryPolicy

    noted: list[float] = []
    monkeypatch.setattr(
        RetryPolicy,
        "wait",
        lambda self, n, asked=None, **_: noted.append(self.delay(n, asked)) or 0.0,
    )
    return noted


@pytest.fixture
def faulty(monkeypatch) -> Callable[[Path], Faulty]:
    """Put a store that can fail in place of an archive's, for all commands from now on."""
    from archiver.archive import archive
    from archiver.storage.local import LocalStore

    stores: dict[Path, Faulty] = {}
    monkeypatch.setattr(archive, "LocalStore", lambda root: stores.get(root) or LocalStore(root))
    return lambda root: stores.setdefault(root, Faulty(LocalStore(root)))


# An archive that mirrors org/model, as a person does who reads what is printed.


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


@pytest.fixture
def by_catalogue(monkeypatch) -> None:
    """Commands look up in the catalogue what is held, as in a large archive."""
    from archiver.archive import lookup

    monkeypatch.setattr(lookup, "PACKS_READ", -1)
    monkeypatch.setenv("KIT_BY_CATALOGUE", "1")  # for the kit, which starts processes


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    """Starts commands as processes of their own, without the seconds that imports take."""
    with Zygote() as started:
        yield started
