"""A small archive with a standing clock, whose journal a test writes."""

from __future__ import annotations

import contextlib
import html
import io
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from kit.cli import invoke
from kit.repository import noise
from pageskit import Page, Served

from archiver import text
from archiver.archive.archive import Archive
from archiver.archive.events import new_event
from archiver.archive.places import settled_place
from archiver.web.pages.standing import Standing, standing

if TYPE_CHECKING:
    from pathlib import Path

    from archiver.archive.events import KnownDetail

NOW = datetime(2027, 5, 3, 6, tzinfo=UTC)
"""A Monday."""


class Kept:
    """An archive of which the clock, and so the age of everything, is the test's."""

    def __init__(self, folder: Path, monkeypatch) -> None:
        self.root = folder / "weights"
        self._folder = folder
        self._now = NOW
        monkeypatch.setattr(text, "_machine_clock", lambda: self._now)
        self.run("init")

    def at(self, days: float) -> str:
        """Turn the clock to so many days before NOW; the time."""
        self._now = NOW - timedelta(days=days)
        return text.utc_now()

    def run(self, command: str, *words: object, code: int | None = 0) -> None:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            ended = invoke(*command.split(), "-q", "-C", self.root, *words)
        assert code in {None, ended}, printed.getvalue()

    def hold(self, name: str, seed: int, size: int = 5000) -> None:
        folder = self._folder / f"model-{seed}"
        folder.mkdir()
        (folder / "data.bin").write_bytes(noise(seed, size))
        self.run("import", folder, "--as", name, "--min-free", "0B")

    @property
    def archive(self) -> Archive:
        return Archive.open(self.root)

    @property
    def here(self) -> str:
        return settled_place(self.archive).key

    def record(self, detail: KnownDetail, days: float, repository: str = "", revision: str = ""):
        """Journal an event of so many days before NOW; its id."""
        time = self.at(days)
        digest = self.archive.record(new_event(detail, repository, revision, time=time))
        self.at(0)
        return digest

    @property
    def packs(self) -> list[tuple[str, int]]:
        """Packs and their sizes, in the order of their repositories."""
        snapshots = sorted(self.archive.snapshots(), key=lambda each: each.seal.repository)
        return [pack for snapshot in snapshots for pack in snapshot.seal.packs]

    @property
    def standing(self) -> Standing:
        return standing(self.archive)

    def page(self, path: str, **query: str) -> Page:
        return Served(self.root).page(path, **query)


def words(page: Page) -> str:
    """A page's text, in which what stands in different elements is apart."""
    return " ".join(html.unescape(re.sub("<[^>]+>", " ", page.source)).split())
