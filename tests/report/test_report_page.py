"""The page: one file, well formed, that runs nothing and asks for nothing, whatever is held."""

from __future__ import annotations

import re
import socket
import sys
import threading
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from kit.cli import invoke
from kit.journal import raw_event
from kit.repository import noise
from reportkit import Page, dom_of, import_folder, page_of

from archiver.archive.archive import Archive
from archiver.archive.events import Acknowledged, Copied, Gone, Sealed, new_event
from archiver.progress import Progress
from archiver.report import facts as report
from archiver.report.page import page

ELEMENTS = {
    *("html", "head", "meta", "title", "style", "body", "header", "main", "footer", "section"),
    *("h1", "h2", "p", "dl", "div", "dt", "dd", "b", "small", "span", "time", "ol", "li", "pre"),
    *("code", "table", "caption", "thead", "tbody", "tr", "th", "td", "figure", "figcaption"),
    *("svg", "path", "rect", "line", "circle", "g"),
}


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "weights"
    assert invoke("init", "-q", "-C", folder) == 0
    import_folder(folder, tmp_path / "model", "org/one", noise(1, 5000))
    return folder


def hostile(root, address: str) -> list[str]:
    """Put into the journal what somebody may have written who wants more than to be read."""
    texts = [
        "<script>document.title='ran'</script>",
        f"<img src={address}/img>",
        f"</title></style><style>@import url({address}/css);body{{display:none}}</style>",
        f"\"><svg onload=\"document.title='ran'\"><image href='{address}/svg'/></svg>",
        f"'><iframe src='{address}/frame'></iframe>{{{{ 7 * 7 }}}}{{% raw %}}",
        f"javascript:fetch('{address}/js')",
        "\x1b]0;ran\x07\u202egnp",
    ]
    archive = Archive.open(root)
    snapshot = next(iter(archive.snapshots())).id
    for number, text in enumerate(texts):
        time = f"2026-01-{number + 1:02}T00:00:00Z"
        archive.record(new_event(Sealed("0" * 64), text, text, time=time))
        archive.record(new_event(Gone(text, text), "org/one", text, time=time))
        archive.record(new_event(Acknowledged("gone", text, text, text), text, text, time=time))
        copied = Copied(from_=text, to=f"{text} ", snapshots=(snapshot,), packs=())
        archive.record(new_event(copied, time=time))
        archive.record(raw_event("smoke-tested", time, text, text, text, {"levels": {"x": text}}))
    return texts


def test_the_page_is_well_formed_and_has_the_verdict_first(root, run):
    result = run("-C", root, "report")
    assert (result.code, result.out) == (0, f"Written: {root}/report.html\n")
    seen = page_of(root)
    assert set(seen.tags) <= ELEMENTS
    assert (seen.tags.count("h1"), seen.tags.count("title")) == (1, 1)
    assert seen.tags.count("table") == seen.tags.count("caption")
    said = run("-C", root, "status").out.partition("\n")[0]
    assert said.startswith("NOT AS WANTED: 1 thing falls short. 1 snapshot in 1 pack, ")
    assert said in seen.text
    assert "archiver audit -C" in seen.text
    body = seen.text.partition("Archive ")[2]
    assert body.index("1 thing falls short") < body.index("Proof calendar")


def test_nothing_that_is_held_gets_out_of_its_text(root, run):
    texts = hostile(root, "http://127.0.0.1:9")
    assert run("-C", root, "report").code == 0
    seen = page_of(root)
    assert set(seen.tags) <= ELEMENTS
    assert seen.tags.count("style") == 1
    names = {name for name, _ in seen.attributes}
    assert not {name for name in names if name.startswith("on")}
    assert not names & {
        "href",
        "src",
        "srcset",
        "action",
        "style",
        "xlink:href",
        "data",
        "formaction",
    }
    for text in texts[:-1]:
        assert text[:200] in "".join(seen.texts), text
    assert "{{ 7 * 7 }}" in "".join(seen.texts)
    assert r"\x1b]0;ran\x07\u202egnp" in "".join(seen.texts)


def test_the_style_is_the_one_that_the_page_allows(root, run):
    import base64
    import hashlib

    assert run("-C", root, "report").code == 0
    text = (root / "report.html").read_text()
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', text)
    assert policy == (
        f"default-src &#39;none&#39;; style-src &#39;sha256-{digest}&#39;; "
        "base-uri &#39;none&#39;; form-action &#39;none&#39;"
    )
    assert "url(" not in style
    assert "@import" not in style


def test_a_browser_asks_for_nothing_and_runs_nothing(root, run, tmp_path):
    asked = []
    with closing(socket.create_server(("127.0.0.1", 0))) as server:

        def listen():
            try:
                while True:
                    connection, _ = server.accept()
                    asked.append(connection.recv(200))
                    connection.close()
            except OSError:
                return

        thread = threading.Thread(target=listen)
        thread.start()
        hostile(root, f"http://127.0.0.1:{server.getsockname()[1]}")
        assert run("-C", root, "report").code == 0
        # The browser would run it, and would ask: else this test shows nothing.
        bait = tmp_path / "bait.html"
        port = server.getsockname()[1]
        bait.write_text(
            f"<title>no</title><img src='http://127.0.0.1:{port}/bait'>"
            "<script>document.title='ran'</script>"
        )
        assert "<title>ran</title>" in dom_of(bait, tmp_path / "profile")
        assert any(b"/bait" in request for request in asked)
        asked.clear()
        seen = Page(dom_of(root / "report.html", tmp_path / "profile"))
        server.shutdown(socket.SHUT_RDWR)
    thread.join()
    assert not asked
    assert set(seen.tags) <= ELEMENTS
    assert "".join(seen.texts).lstrip().startswith("NOT AS WANTED: ")
    assert "\nran\n" not in "".join(seen.texts)


def test_a_page_is_written_over_the_one_before_and_nowhere_else_in_the_archive(root, run, tmp_path):
    out = tmp_path / "page.html"
    out.write_text("before")
    first = run("-C", root, "report", "--to", out)
    assert (first.code, out.read_bytes()) == (0, (root / "report.html").read_bytes())
    assert run("-C", root, "audit", "-q").code == 0
    assert run("-C", root, "report", "--to", out).code == 0
    assert "Nothing falls short" in out.read_text()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    for inside in (root / "report.html", root / "packs" / "x.html", root / "archive.json"):
        assert run("-C", root, "report", "--to", inside).code == 2
    assert run("-C", root, "report", "--to", tmp_path).code == 2
    assert run("-C", root, "report", "--to", tmp_path / "none" / "page.html").code == 2


def test_no_reader_takes_the_page_for_a_part_of_the_archive(root, run, tmp_path):
    assert run("-C", root, "report").code == 0
    assert run("-C", root, "audit", "--json").findings == []
    assert run("-C", root, "copy", "--new", tmp_path / "copy", "-q").code == 0
    assert not (tmp_path / "copy" / "report.html").exists()
    assert run("-C", root, "prune", "--json").code == 0
    assert (root / "report.html").exists()


def test_from_a_place_where_nothing_can_be_written(root, run, tmp_path, faulty):
    from archiver.errors import ArchiverError

    def refuse(*_):
        raise ArchiverError("The archive cannot be written to.")

    faulty(root).require_writable = refuse
    assert run("-C", root, "report").code == 1
    result = run("-C", root, "report", "--to", tmp_path / "page.html")
    assert result.code == 0
    assert "It was not put into the archive: " in result.err
    assert (tmp_path / "page.html").exists()
    assert not (root / "report.html").exists()


def test_without_the_library_for_pages_there_is_the_record(root, run, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    result = run("-C", root, "report", "--json")
    assert result.code == 4
    assert result.only("report")["held"]["snapshots"] == 1
    assert "[pages]" in result.only("error")["hint"]


def test_the_largest_page_has_a_bound(root):
    """Of an archive of a hundred thousand packs it is no larger: packs are counted, never listed."""
    facts = report.collect(Archive.open(root), Progress())
    row, place = facts.held.list[0], facts.places[0]
    name = "o" * 90 + "/" + '<&"' * 35
    weeks = tuple(
        report.Week(report.monday(facts.time, weeks=week), 10**5, 10**15)
        for week in range(report.WEEKS)
    )
    replace = msgspec.structs.replace
    place = replace(place, weeks=weeks, state=replace(place.state, place=name))
    change = report.Change(facts.time, "new", name, "f" * 40)
    shortfall = facts.verdict.shortfalls[0]
    largest = replace(
        facts,
        held=replace(
            facts.held, list=(replace(row, repository=name, gone="x"),) * report.REPOSITORIES_MAX
        ),
        places=(place,) * report.PLACES_MAX,
        changes=(change,) * report.CHANGES_MAX,
        verdict=replace(facts.verdict, shortfalls=(shortfall,) * report.ENTRIES_MAX),
    )
    size = len(page(largest).encode())
    assert 100_000 < size < 2_000_000


def luminance(colour: str) -> float:
    """Relative luminance, as WCAG 2 defines it."""
    digits = colour.lstrip("#")
    full = digits if len(digits) == 6 else "".join(digit * 2 for digit in digits)
    parts = [int(full[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_text_has_contrast_in_every_scheme():
    style = (Path(report.__file__).parent / "report.css").read_text()
    schemes = [
        dict(re.findall(r"--(\w+): (#[0-9a-f]+);", block))
        for block in re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    ]
    assert len(schemes) == 3  # light, dark, print
    for scheme in schemes:
        for ink in ("ink", "soft", "bad", "accent"):
            for paper in ("paper", "well"):
                light, dark = sorted((luminance(scheme[ink]), luminance(scheme[paper])))
                assert (dark + 0.05) / (light + 0.05) >= 4.5, (ink, paper, scheme)
