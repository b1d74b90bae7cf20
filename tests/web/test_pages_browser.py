"""The pages in a real browser: for those who hear, zoom or type them, and without a script or a friend."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from browserkit import browser, port_of_pages
from kit import showcase
from kit.cli import invoke
from PIL import Image
from screenshots import BYTES_MAX, FOLDER, PICTURES, joined, shots

from archiver.web.pages import health

if TYPE_CHECKING:
    from collections.abc import Iterator

    from browserkit import Browser

AXE = Path(__file__).parent / "node/node_modules/axe-core/axe.min.js"
SHOWN = (
    "/repositories",
    "/repositories?q=Qwen&in=everything",
    "/repositories?q=nothing-of-this-name",
    f"/repositories/{showcase.SMALL}",
    f"/repositories/{showcase.SMALL}/compare",
    "/status",
    "/fixity",
    "/plans",
    "/journal",
    "/journal?kind=night",
    "/journal?q=nothing-of-this-kind",
    "/no/such/page",
)
BELOW = ("files", "tensors")
EMPTY = ("/repositories", "/status", "/fixity", "/plans", "/journal")
WINDOWS = ((1280, "light", True), (1280, "dark", False), (390, "light", False), (390, "dark", True))
"""Width, colour scheme, and whether every rule is tried: of the others none depends on the colours."""


@pytest.fixture(scope="module")
def at(tmp_path_factory) -> Iterator[str]:
    """The address of the pages of an archive with a past."""
    root = showcase.build(tmp_path_factory.mktemp("past"))
    with showcase.standing_clock(), port_of_pages(root) as address:
        yield address


@pytest.fixture(scope="module")
def empty(tmp_path_factory) -> Iterator[str]:
    """Those of an archive of which nothing happened yet."""
    root = tmp_path_factory.mktemp("empty") / "weights"
    assert invoke("init", "-q", "-C", root) == 0
    with port_of_pages(root) as address:
        yield address


@pytest.fixture(scope="module")
def look(tmp_path_factory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as driven:
        yield driven


@pytest.fixture(scope="module")
def addresses(at, look) -> list[str]:
    """Every kind of page: those of revisions, files and tensors are found by their links."""
    look.window(1280, 900)
    found = [f"{at}{path}" for path in SHOWN]
    for name in (showcase.SMALL, showcase.LARGE_INT4):
        look.go(f"{at}/repositories/{name}")
        revision = next(link for link in links(look) if "/revisions/" in link)
        look.go(revision)
        below = [
            next(link for link in links(look) if f"{revision}/{kind}" in link) for kind in BELOW
        ]
        found += [revision, *below]
    return found


def links(look: Browser) -> list[str]:
    return look.run("[...document.querySelectorAll('main a')].map(link => link.href)")


def faults(look: Browser, *, every: bool = True) -> list[str]:
    """What axe finds wrong on the page, at whatever impact; of contrasts only, or by every rule."""
    rules = "{}" if every else "{runOnly: ['color-contrast', 'link-in-text-block']}"
    look.run(f"{AXE.read_text()}; true", world=True)
    # What is as it should be is not asked for: that list is long.
    found = look.run(
        f"axe.run(document, {{resultTypes: ['violations'], ...{rules}}})"
        ".then(r => r.violations.map(v => "
        "`${v.impact} ${v.id}: ${v.nodes.slice(0, 3).map(n => n.html.slice(0, 200)).join(' | ')}`))",
        world=True,
    )
    return [f"{look.run('location.href')}: {fault}" for fault in found]


@pytest.mark.parametrize(("width", "scheme", "every"), WINDOWS)
def test_axe_finds_nothing_wrong(at, empty, addresses, look, width, scheme, every):
    assert AXE.is_file(), "npm ci in tests/web/node"
    look.window(width, 900, scheme=scheme)
    found = []
    for address in (*addresses, *(f"{empty}{path}" for path in EMPTY)):
        look.go(address)
        found += faults(look, every=every)
    assert not found, "\n".join(found)


def test_axe_would_find_what_is_wrong(look, at):
    """Else the test above shows nothing."""
    look.window(1280, 900)
    look.go(f"{at}/status")
    look.run(
        "document.querySelector('main').insertAdjacentHTML('beforeend', "
        "'<img src=x><input><a href=x></a>')"
    )
    assert {fault.split()[2].rstrip(":") for fault in faults(look)} >= {"image-alt", "label"}


@pytest.mark.parametrize("script", [True, False])
def test_nothing_is_asked_of_others_and_nothing_is_complained_of(at, addresses, look, script):
    look.window(1280, 900, script=script)
    for address in addresses:
        look.go(address)
        asked, told = look.asked(), look.complaints()
        assert [each for each in asked if not each.startswith((f"{at}/", "data:"))] == [], address
        assert [each for each in told if "404" not in each or "/no/such" not in address] == []
        assert any(each.endswith(".css") for each in asked), address


def test_no_page_is_wider_than_a_small_telephone(at, empty, addresses, look):
    look.window(360, 740)
    for address in (*addresses, *(f"{empty}{path}" for path in EMPTY)):
        look.go(address)
        width = look.run("document.documentElement.scrollWidth")
        assert width <= 360, (address, width)


def test_no_two_style_sheets_mean_different_things_by_one_class():
    folder = Path(health.__file__).parent / "static"
    classes = [
        set(re.findall(r"\.([a-z][\w-]*)", re.sub(r"/\*.*?\*/|\{[^}]*\}", " ", sheet.read_text())))
        for sheet in (folder / "pages.css", folder / "health.css")
    ]
    # Some are looked at again inside others.
    assert classes[0] & classes[1] <= {"badge", "day", "mid", "n", "table", "tag", "under", "date"}


def test_without_a_script_the_forms_and_links_do_all(at, look):
    look.window(1280, 900, script=False)
    look.go(f"{at}/journal?kind=night")
    # The check's own world runs, whatever the page may.
    assert look.run("document.querySelectorAll('td.said').length", world=True) >= 1
    target = look.run("document.querySelector('form').action", world=True)
    assert target == f"{at}/journal"
    look.go(f"{at}/journal")
    older = look.run("document.querySelector('a[rel=next]').href", world=True)
    look.go(older)
    assert look.run("document.querySelector('a[rel=prev]').textContent", world=True) == "← Newer"
    look.go(f"{at}/fixity")
    look.run("document.querySelector('details').open = true", world=True)
    rows = look.run("document.querySelectorAll('details[open] tbody tr').length", world=True)
    assert rows >= 10


def test_what_is_typed_filters_the_list_and_the_address_keeps_it(at, look):
    names = "[...document.querySelectorAll('#results tbody tr')].map(r => r.querySelector('a').textContent)"
    look.window(1280, 900)
    look.go(f"{at}/repositories")
    whole = look.run(names)
    wanted = showcase.SMALL.rpartition("/")[2]
    assert any(wanted not in name for name in whole)
    look.run("document.querySelector('input[type=search]').focus()")
    look.write(wanted)
    look.until(f"location.search.includes({json.dumps(wanted)})")
    look.until(f"document.querySelectorAll('#results tbody tr').length < {len(whole)}")
    found = look.run(names)
    assert found
    assert all(wanted in name for name in found), found
    assert look.run("document.activeElement.value") == wanted, "the cursor stays where it was"
    assert str(len(found)) in look.run("document.querySelector('#count').textContent")
    # Of all that belongs to a page only the list was asked for, and what was typed makes the same page.
    assert next(address for address in look.asked() if "q=" in address).startswith(at)
    look.go(look.run("location.href"))
    assert look.run(names) == found
    assert look.complaints() == []


def test_the_keyboard_gets_everywhere_and_sees_where_it_is(at, look):
    look.window(1280, 900)
    look.go(f"{at}/fixity")
    look.press("Tab")
    assert look.run("document.activeElement.className") == "skip"
    assert look.run("document.activeElement.getBoundingClientRect().top >= 0")
    seen = set()
    for _ in range(30):
        look.press("Tab")
        about = look.run(
            "(e => [e.tagName, getComputedStyle(e).outlineStyle, e.matches(':focus-visible')])"
            "(document.activeElement)"
        )
        if about[0] != "BODY":
            assert about[1:] == ["solid", True], about
            seen.add(about[0])
    assert {"A", "DIV", "SUMMARY"} <= seen


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.name)
def test_the_pages_in_the_pictures_are_there_as_large_and_the_docs_show_them(at, look, picture):
    revision = next(link for link in _links_of(look, f"{at}/repositories/{showcase.LARGE_INT4}"))
    whole = joined(shots(look, picture, at, revision))
    file = FOLDER / picture.name
    with Image.open(file) as kept:
        assert kept.size == whole.size
    assert file.stat().st_size < BYTES_MAX
    docs = FOLDER.parent
    texts = [page.read_text() for page in (docs.parent / "README.md", docs / "serve.md")]
    assert any(f"images/{picture.name})" in text for text in texts)


def _links_of(look: Browser, address: str) -> list[str]:
    look.window(1280, 900)
    look.go(address)
    return [link.rpartition("/")[2] for link in links(look) if "/revisions/" in link]


def test_what_axe_is_given_is_the_file_that_the_lock_names():
    lock = json.loads((AXE.parents[2] / "package-lock.json").read_text())
    version = lock["packages"]["node_modules/axe-core"]["version"]
    assert f"axe v{version}" in AXE.read_text()[:200]
