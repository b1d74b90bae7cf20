"""``START-HERE.html``: each volume has its own, and what it quotes is what is said."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

import pytest
from bundlekit import LARGE, SMALL, volumes_of
from kit.wheels import HERE, hollow_wheels

import archiver

ROOT = Path(archiver.__file__).parent


@pytest.fixture
def pages(export, tmp_path):
    wheels = hollow_wheels(tmp_path / "wheels")
    words = ["--with-tool", HERE, "--tool-wheels", wheels]
    assert export(tmp_path / "to", *words).code == 0
    return [(volume / "START-HERE.html").read_text() for volume in volumes_of(tmp_path / "to")]


def blocks(page: str) -> str:
    return "\n".join(map(unescape, re.findall("<pre>(.*?)</pre>", page, re.DOTALL)))


def test_the_first_volume_installs_and_the_others_lead_there(pages):
    first, *others = pages
    assert "sh tools/install.sh" in blocks(first)
    assert others
    for page in others:
        assert "install.sh" not in blocks(page)
        assert "volume-0001, brings it" in page


def test_it_names_what_there_is_and_leads_nowhere(pages):
    for number, page in enumerate(pages, 1):
        assert f"<h1>Volume {number} of {len(pages)}</h1>" in page
        assert LARGE in page
        assert SMALL in page
        assert not re.search("<script|<link|<img|href|src=|https?:", page)
        assert "archiver bundle import -C ~/weights ." in blocks(page)
        assert "--packs /media/other/volume-0002" in blocks(page)


def test_one_volume_alone_speaks_of_no_others(export, tmp_path):
    assert export(tmp_path / "to", references=[SMALL]).code == 0
    page = (tmp_path / "to" / "volume-0001" / "START-HERE.html").read_text()
    assert "--packs" not in page
    assert "further volume" not in page
    assert "install.sh" not in page


def test_each_message_is_what_the_commands_say(pages):
    """An explanation of what nobody says any more helps nobody."""
    sources = "".join((ROOT / name).read_text() for name in ("cli/bundle.py", "carried/install.py"))
    said = [unescape(text) for text in re.findall("<td><code>(.*?)</code></td>", pages[0])]
    assert len(said) >= 10
    for text in said:
        for part in text.split(" … "):
            assert part in sources, text
