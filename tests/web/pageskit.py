"""What the tests of the pages share: an archive that is served, and a page as a strict reader sees it."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING

from starlette.testclient import TestClient

from archiver.archive.archive import Archive
from archiver.archive.serving.segment_cache import SegmentCache
from archiver.web.app import create_app
from archiver.web.serving import Serving

if TYPE_CHECKING:
    from pathlib import Path

    from httpx2 import Response

INLINE = {"a", "abbr", "b", "code", "em", "i", "span", "strong", "time", "wbr"}
VOID = {"meta", "br", "hr", "img", "link", "input", "wbr", "rect", "path", "line", "circle"}
_EXTERNAL = re.compile(r"(?:[a-z]+:)?//|[a-z][a-z0-9+.-]*:", re.IGNORECASE)


class Page(HTMLParser):
    """A page: every element is closed in its turn, and nothing of it is inline or asks elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.source = text
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.headings: list[int] = []
        self.title = ""
        self.feed(text)
        self.close()
        assert not self.open, self.open
        self._check()

    def handle_starttag(self, tag, attrs):
        assert len({name for name, _ in attrs}) == len(attrs), (tag, attrs)
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in INLINE:
            self.texts.append(" ")
        if tag in VOID:
            return
        self.open.append(tag)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, tag
        if tag not in INLINE:
            self.texts.append(" ")

    def handle_data(self, data):
        if self.open and self.open[-1] == "title" and "svg" not in self.open:
            self.title += data
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.texts).split())

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def _check(self) -> None:
        assert self.source.startswith("<!doctype html>")
        assert self.title.endswith(" · archiver")
        assert len(self.title) > len(" · archiver")
        assert self.headings[0] == 1
        assert self.headings.count(1) == 1
        for above, below in zip(self.headings, self.headings[1:], strict=False):
            assert below <= above + 1, self.headings
        ids = [each["id"] for _, each in self.elements if "id" in each]
        assert len(ids) == len(set(ids))
        assert self.all("html")[0]["lang"]
        for landmark in ("header", "nav", "main", "footer"):
            assert self.all(landmark), landmark
        assert ("a", {"class": "skip", "href": "#content"}) in self.elements
        for tag, attributes in self.elements:
            assert tag not in {"style", "iframe", "object", "embed", "base"}
            assert "style" not in attributes
            assert not [name for name in attributes if name.startswith("on")], attributes
            for name in ("src", "srcset", "action", "data", "poster", "data-hx-get"):
                assert not _EXTERNAL.match(attributes.get(name, "")), attributes
            href = attributes.get("href", "")
            if _EXTERNAL.match(href):
                assert tag == "a"
                assert re.match("https?://|mailto:", href), href
                assert "noopener" in attributes["rel"]
            if tag == "script":
                assert attributes["src"].startswith("/static/")
            if tag == "th":
                assert attributes.get("scope"), attributes
            if tag in {"input", "select"} and attributes.get("type") != "hidden":
                named = {each.get("for") for each in self.all("label")}
                assert attributes["id"] in named
        pieces = re.findall("<script[^>]*>(.*?)</script>", self.source, re.DOTALL)
        assert not any(map(str.strip, pieces))


class Served:
    """An archive's pages, asked as a browser does."""

    def __init__(self, root: Path) -> None:
        serving = Serving(Archive.open(root), SegmentCache(64 << 20))
        accept = {"Accept": "text/html"}
        self.client = TestClient(create_app(serving), "http://localhost", headers=accept)

    def get(self, path: str, **query: str) -> Response:
        return self.client.get(path, params=query or None)

    def page(self, path: str, status: int = 200, **query: str) -> Page:
        answer = self.get(path, **query)
        assert answer.status_code == status, answer.text[:2000]
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        policy = answer.headers["content-security-policy"]
        assert "unsafe" not in policy
        assert policy.startswith("default-src 'none';")
        return Page(answer.text)
