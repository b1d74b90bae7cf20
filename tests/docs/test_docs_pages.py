"""Every page: its links lead somewhere, its pictures are sound, and it says nothing that no page may."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING
from urllib.parse import unquote

import docskit
import pytest

if TYPE_CHECKING:
    from pathlib import Path

_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"`[^`]*`")
BANNED = re.compile(
    r"/work/|/root/|\bissue #|\bTODO\b|\bFIXME\b|\bTBD\b|\blorem ipsum\b"
    r"|\bblazing|\bseamless|\bcutting[- ]edge|\bstate[- ]of[- ]the[- ]art|\bpowerful\b"
    r"|\brobust\b|\brevolutionary\b|\beffortless|\bsimply\b|\bleverag",
    re.IGNORECASE,
)
"""Paths of one machine, loose ends, praise."""


def links(text: str) -> list[str]:
    return _LINK.findall(_CODE.sub("`code`", docskit.prose(text)))


def anchors(text: str) -> set[str]:
    """The anchors that a forge makes of a page's headings."""
    names: set[str] = set()
    for _, title in docskit.headings(text):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        count = 1
        while (name := slug if count == 1 else f"{slug}-{count - 1}") in names:
            count += 1
        names.add(name)
    return names


def linked(page: Path) -> set[Path]:
    """The pages that a page links to; a folder stands for its README."""
    targets = {
        (page.parent / link.partition("#")[0]).resolve()
        for link in links(page.read_text(encoding="utf-8"))
    }
    files = {target / "README.md" if target.is_dir() else target for target in targets}
    return {file for file in files if file.suffix == ".md" and file.is_file()}


@pytest.mark.parametrize("page", docskit.pages(), ids=docskit.page_id)
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    dead = []
    for link in links(text):
        if link.startswith("https://"):
            continue
        file, _, anchor = unquote(link).partition("#")
        target = (page.parent / file).resolve() if file else page
        inside = target.is_relative_to(docskit.ROOT) and target.exists()
        if not inside or (anchor and anchor not in anchors(target.read_text(encoding="utf-8"))):
            dead.append(link)
    assert not dead


def test_the_readme_leads_to_every_page():
    """In at most two steps from the README, so that no page is lost."""
    start = docskit.ROOT / "README.md"
    near = linked(start)
    far = {target for page in near for target in linked(page)}
    assert set(docskit.pages()) <= {start} | near | far


@pytest.mark.parametrize(
    "picture", sorted((docskit.ROOT / "docs").rglob("*.svg")), ids=docskit.page_id
)
def test_pictures_are_sound_and_fit_light_and_dark(picture):
    text = picture.read_text(encoding="utf-8")
    assert ET.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
    assert "prefers-color-scheme: dark" in text
    assert "<title" in text
    assert "<desc" in text
    used = set(re.findall(r'class="([a-z]+)"', text))
    styled = set(re.findall(r"\.([a-z]+)[ ,{]", text))
    assert used <= styled


def test_every_decision_note_is_short_and_dated_and_listed():
    folder = docskit.ROOT / "docs" / "decisions"
    listed = (folder / "README.md").read_text(encoding="utf-8")
    for note in folder.glob("2*.md"):
        text = note.read_text(encoding="utf-8")
        assert note.name in listed
        assert text.splitlines()[2] == note.name[:10]
        assert all(f"**{part}.**" in text for part in ("Context", "Choice", "Consequence"))
        assert len(text.splitlines()) <= 24


@pytest.mark.parametrize("page", docskit.pages(), ids=docskit.page_id)
def test_no_page_has_banned_words(page):
    assert not BANNED.findall(page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", docskit.commands())
def test_no_help_text_has_banned_words(name):
    command = docskit.commands()[name]
    texts = [command.help or "", command.epilog or ""]
    texts += [getattr(option, "help", "") or "" for option in command.params]
    assert not BANNED.findall(" ".join(texts))
