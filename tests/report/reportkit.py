"""A page as a browser, and a strict reader, see it."""

from __future__ import annotations

import json
import shutil
import subprocess
from html.parser import HTMLParser
from typing import TYPE_CHECKING

from kit.cli import invoke

from archiver.archive.archive import Archive
from archiver.archive.events import new_event

if TYPE_CHECKING:
    from pathlib import Path

    from archiver.archive.events import KnownDetail

CHROMIUM = "/usr/bin/chromium"
VOID = {"meta", "br", "hr", "img", "link", "input"}


class Page(HTMLParser):
    """Every element is closed in its turn; what is there is noted."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        assert len({name for name, _ in attrs}) == len(attrs), (tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, tag

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.texts).split())


def page_of(root: Path) -> Page:
    return Page((root / "report.html").read_text())


def facts_of(root: Path) -> dict:
    return json.loads((root / "report.json").read_text())


def record(
    root: Path, detail: KnownDetail, time: str = "", repository: str = "", revision: str = ""
) -> str:
    """Journal an event; its id."""
    return Archive.open(root).record(new_event(detail, repository, revision, time=time))


def import_folder(root: Path, folder: Path, name: str, data: bytes) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "data.bin").write_bytes(data)
    words = ("import", "-q", "-C", root, folder, "--as", name, "--min-free", "0B")
    assert invoke(*words) == 0


def dom_of(page: Path, profile: Path) -> str:
    """What a browser makes of a page, after every script had its turn."""
    assert shutil.which(CHROMIUM), "this test needs the package chromium"
    words = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    words += ["--disable-background-networking", "--no-first-run", f"--user-data-dir={profile}"]
    done = subprocess.run(
        [*words, "--dump-dom", page.as_uri()],
        check=True,
        capture_output=True,
        text=True,
        timeout=300,
    )
    return done.stdout
