"""The wheel of what runs: the same from a source tree and from an installed wheel that is as it was."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile

import pytest
from kit.wheels import OWN

from archiver.operations.bundle.own_wheel import own_wheel

CODE = """
import hashlib, sys
import archiver
from archiver.errors import ArchiverError
from archiver.operations.bundle.own_wheel import own_wheel
assert archiver.__file__.startswith(sys.argv[1]), archiver.__file__
try:
    print(hashlib.sha256(own_wheel()[1]).hexdigest())
except ArchiverError as error:
    sys.exit(f"{error.exit_code}: {error.message} {error.hint}")
"""


@pytest.fixture
def installed(tmp_path):
    """What runs here, as an installer leaves it of a wheel."""
    name, data = own_wheel()
    path = tmp_path / name
    path.write_bytes(data)
    folder = tmp_path / "site"
    with zipfile.ZipFile(path) as packed:
        packed.extractall(folder)
    described = next(folder.glob("*.dist-info"))
    (described / "INSTALLER").write_text("test\n")
    return folder, hashlib.sha256(data).hexdigest()


def made(folder) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", CODE, folder],
        env={**os.environ, "PYTHONPATH": str(folder)},
        cwd=folder.parent,
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_installed_wheel_gives_the_same_one(installed):
    folder, digest = installed
    for _ in range(2):  # the second time there are compiled files beside the others
        done = made(folder)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == digest


@pytest.mark.parametrize("how", ["changed", "missing", "more"])
def test_an_installation_that_was_changed_is_not_carried(installed, how):
    folder, _ = installed
    path = folder / "archiver" / "text.py"
    match how:
        case "changed":
            path.write_text(path.read_text() + "\n# changed\n")
        case "missing":
            path = folder / "archiver" / "demo" / "story.py"
            path.unlink()
        case "more":
            path = folder / "archiver" / "more.py"
            path.write_text("")
    done = made(folder)
    assert done.returncode == 1
    assert done.stderr.startswith(f"20: {path} is not as it was installed")


def test_it_is_a_wheel_of_plain_files(installed):
    folder, _ = installed
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {
        "archiver/__main__.py",
        "archiver/carried/FORMAT.md",
        "archiver/carried/install.sh",
    } <= names
    assert any(name.startswith("archiver/carried/manifests/") for name in names)
    assert not any("__pycache__" in name or name.endswith(".pth") for name in names)
    assert any(name.startswith(OWN.replace("-", "_")) and "licenses" in name for name in names)
