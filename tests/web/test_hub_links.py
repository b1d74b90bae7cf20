"""Links of the Hub's own pages, in a browser and from programs."""

from __future__ import annotations

import json

import pytest
from servedkit import DATASET, MODEL

HTML = {"Accept": "text/html,application/xhtml+xml"}


@pytest.fixture
def link(server):
    def ask(path: str, method: str = "GET") -> str:
        """Where a browser is led; ``""``: to the page that says that there is none."""
        answer = server.ask(path, HTML, method)
        if answer.status == 307:
            target = answer.headers["location"]
            assert server.ask(target, HTML).status == 200, target
            return target
        assert answer.status == 404
        assert b"There is no such page" in answer.body or method == "HEAD"
        return ""

    return ask


def test_a_browser_is_led_to_the_pages_of_what_is_held(link, history):
    first, second, third = history.commits
    repository = f"/repositories/{MODEL}"
    for path, target in {
        f"/{MODEL}": repository,
        f"/{MODEL.upper()}/": repository,
        f"/datasets/{DATASET}": f"/repositories/datasets/{DATASET}",
        f"/{MODEL}/tree/main": f"{repository}/revisions/{third}",
        f"/{MODEL}/tree/v1.0": f"{repository}/revisions/{first}",
        f"/{MODEL}/tree/refs%2Fheads%2Fdev": f"{repository}/revisions/{second}",
        f"/{MODEL}/tree/{first}/a%20b": f"{repository}/revisions/{first}/files?q=a+b%2F",
        f"/{MODEL}/blob/main/config.json": f"{repository}/revisions/{third}/files?q=config.json",
        f"/{MODEL}/blob/{second[:9]}": f"{repository}/revisions/{second}",
    }.items():
        assert link(path) == target, path
        assert link(path, "HEAD") == target, path


@pytest.mark.parametrize(
    "path",
    [
        "/org/nothing",
        f"/datasets/{MODEL}",
        f"/{MODEL}/tree",
        f"/{MODEL}/tree/nothing",
        f"/{MODEL}/tree/..",
        f"/{MODEL}/blob/",
        f"/{MODEL}/discussions/main",
        f"/{MODEL}%2Ftree/main/x",
        "//example.org",
        f"//example.org/{MODEL}",
        f"/%2Fexample.org/{MODEL}",
        "/datasets",
        "/datasets/",
        "/%FF/%00",
    ],
)
def test_what_is_not_held_leads_nowhere(link, path):
    assert link(path) == ""


def test_what_is_searched_for_cannot_lead_elsewhere(server):
    for odd in ("%0D%0ASet-Cookie:%20a=b", "%22%3E%3Cscript%3E", "..%2F..%2F%2Fexample.org"):
        answer = server.ask(f"/{MODEL}/blob/main/{odd}", HTML)
        assert answer.status == 307
        assert answer.headers["location"].startswith(f"/repositories/{MODEL}/revisions/")
        assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("accept", [{}, {"Accept": "*/*"}, {"Accept": "application/json"}])
def test_programs_get_what_they_got(server, accept):
    for path in (f"/{MODEL}", f"/{MODEL}/tree/main", f"/{MODEL}/blob/main/config.json"):
        answer = server.ask(path, accept)
        assert answer.status == 404
        assert "error" in json.loads(answer.body)
    assert server.ask(f"/{MODEL}/resolve/main/config.json", HTML).status == 200
    assert server.ask(f"/{MODEL}", HTML, "POST").status == 404


def test_the_first_page_is_that_of_the_repositories(server):
    assert MODEL.encode() in server.ask("/", HTML).body.replace(b"<wbr>", b"")
