"""What is missing comes from where archiver came from, never by a name that a registry may give others."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest

import archiver
from archiver.smoke.libraries import DISTRIBUTION, install_hint

ROOT = Path(archiver.__file__).parents[1]


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """As if archiver were installed, not run from a clone."""
    monkeypatch.setattr(archiver, "__file__", str(tmp_path / "lib" / "archiver" / "__init__.py"))
    monkeypatch.syspath_prepend(str(tmp_path))

    def installed(url):
        info = tmp_path / f"{DISTRIBUTION.replace('-', '_')}-0.1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {DISTRIBUTION}\nVersion: 0.1.0\n"
        )
        (info / "direct_url.json").write_text(url)

    return installed


def named(hint):
    """What the hint tells pip to install."""
    return shlex.split(hint.partition(" install ")[2].partition(" (")[0].partition(",")[0])[0]


def test_a_clone_names_itself():
    assert named(install_hint()) == f"{ROOT}[smoke]"
    assert named(install_hint("demo")) == f"{ROOT}[demo]"


def test_a_wheel_that_is_still_there_is_named(elsewhere, tmp_path):
    wheel = tmp_path / "usb disk" / "weights_archiver-0.1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    wheel.write_bytes(b"")
    elsewhere(f'{{"url": "{wheel.as_uri()}"}}')
    assert named(install_hint()) == f"{wheel}[smoke]"


@pytest.mark.parametrize("url", ['{"url": "file:///no/such"}', '{"url": 3}', "[]", "{", ""])
def test_otherwise_a_person_knows_the_path(elsewhere, url):
    elsewhere(url)
    assert named(install_hint()) == "PATH[smoke]"


def test_the_package_has_a_name_of_its_own():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["name"] == DISTRIBUTION
    assert "archiver" in project["scripts"]


def test_nothing_tells_anybody_to_install_a_strangers_package():
    pages = [ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("archiver/**/*.py")]
    for page in pages:
        text = page.read_text()
        assert not re.search(r"(?<![\w./-])archiver\[", text), page
        assert not re.search(r"pip (?:install|download|wheel)[^\n`]* archiver\b(?![/.\[])", text), (
            page
        )
