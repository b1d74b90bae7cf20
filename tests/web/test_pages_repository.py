"""The pages of a repository: its history and card, a revision's files and tensors, what changed."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
from datetime import UTC, datetime, timedelta

import pytest
from kit.cli import invoke
from kit.repository import bf16, noise, safetensors
from pageskit import Served

from archiver import text
from archiver.loopback.hub import Hub
from archiver.web.threads import Threads

REPO = "org/model"
CARD = b"""---
license: apache-2.0
base_model: org/base
tags: [chat, "<b>bold</b>"]
---
# The model
"""
LAYERS = 1000
"""Tensors of the second revision; three of each."""
FILES = 500


def weights(seed: int, changed: bytes = b"") -> bytes:
    tensors = {"embed.weight": ("BF16", (64, 128), bf16(seed, 64, 128))}
    tensors["norm.weight"] = ("F32", (32,), changed or noise(seed, 128))
    return safetensors(tensors)


def many() -> bytes:
    tensors = {}
    for number in range(LAYERS):
        for name in ("q", "k", "v"):
            tensors[f"layers.{number}.{name}.weight"] = ("U8", (2,), number.to_bytes(2, "big"))
    return safetensors(tensors)


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """A repository with three revisions, of which one is no longer upstream; then it is gone."""
    folder = tmp_path_factory.mktemp("repository")
    root = folder / "archive"
    now = datetime(2027, 1, 1, 6, tzinfo=UTC)
    os.environ["HOME"] = str(folder / "home")
    patch = pytest.MonkeyPatch()
    patch.setattr(text, "wall_clock", lambda: now)

    def run(verb, *words):
        return invoke(verb, "-q", "-C", root, *words)

    with Hub() as hub:
        patch.setenv("HF_ENDPOINT", hub.endpoint)
        run("init")
        first = hub.create(
            REPO,
            {"README.md": CARD, "model.safetensors": weights(1)},
            card={"license": "apache-2.0"},
        )
        hub.tag(REPO, "v1")
        assert run("mirror", REPO) == 0
        run("watch", REPO)
        now += timedelta(days=10)
        files = {f"notes/{number:03}.txt": b"%d" % number for number in range(FILES)}
        hub.untag(REPO, "v1")
        second = hub.force_push(
            REPO,
            files
            | {
                "README.md": CARD.replace(b"apache-2.0", b"other"),
                "model.safetensors": weights(1, noise(9, 128)),
                "many.safetensors": many(),
            },
        )
        hub.tag(REPO, "v1")
        run("watch", REPO)
        assert run("mirror", REPO) == 0
        now += timedelta(days=10)
        third = hub.commit(REPO, {"README.md": CARD + b"More.\n"})
        assert run("mirror", REPO) == 0
        run("watch", REPO)
        assert run("audit") == 0
        hub.delete(REPO)
        for _ in range(4):
            now += timedelta(days=1)
            run("watch", REPO, REPO)
    yield root, (first, second, third)
    patch.undo()


@pytest.fixture(scope="module")
def served(story):
    return Served(story[0])


def test_a_repository_tells_its_history(served, story):
    page = served.page(f"/repositories/{REPO}")
    first, second, third = (commit[:12] for commit in story[1])
    for words in (
        "3 revisions held",
        f"Revision {first} sealed",
        f"Revision {third} sealed",
        "no longer upstream",
        f"The branch main was rewritten: it is at {second}, and not after {first}",
        f"The tag v1 moved from {first} to {second}",
        "Looked at upstream for the first time.",
        "2027-01-21",
    ):
        assert words in page.text, words
    # Newest first.
    places = [page.text.index(f"Revision {commit} sealed") for commit in (third, second, first)]
    assert places == sorted(places)
    assert page.title.startswith(REPO)


def test_its_front_matter_is_told_as_facts(served):
    page = served.page(f"/repositories/{REPO}")
    for words in ("Licence apache-2.0", "Base model org/base", "Tags chat <b>bold</b>"):
        assert words in page.text, words


def test_a_name_is_found_however_its_case_is(served):
    assert "3 revisions held" in served.page("/repositories/ORG/Model").text


@pytest.mark.parametrize("below", ["", "/files", "/tensors"])
def test_a_revision_is_found_by_the_beginning_of_its_commit(served, story, below):
    for commit in story[1]:
        page = served.page(f"/repositories/{REPO}/revisions/{commit[:9]}{below}")
        assert commit[:12] in page.title


def test_a_revision_says_what_it_is_and_how_to_have_it(served, story):
    first, second, _ = story[1]
    page = served.page(f"/repositories/{REPO}/revisions/{second}")
    for words in (
        f"HF_ENDPOINT=http://localhost hf download {REPO} --revision {second}",
        f"archiver restore -C {story[0]} {REPO}@{second} model",
        "layers.#.q.weight U8 2 1,000",
        "3,002 tensors",
        "503 files",
        "upstream",
        "Last proven here",
        "Level content 2027-01-21",
        f"New since {first[:12]}",
    ):
        assert words in page.text, words


def test_files_are_turned_over_in_pages(served, story):
    path = f"/repositories/{REPO}/revisions/{story[1][1]}/files"
    seen = []
    for number in range(1, 7):
        page = served.page(path, page=str(number))
        rows = [each for each in page.all("a") if "/resolve/" in each.get("href", "")]
        assert len(rows) <= 100
        seen += [each["href"].rpartition("/resolve/")[2].partition("/")[2] for each in rows]
        assert len(served.get(path, page=str(number)).content) < 200_000
    assert len(seen) == len(set(seen)) == FILES + 3
    page = served.page(path, q="NOTES 49")
    assert "15 of 503 files" in page.text
    assert "No file fits" in served.page(path, q="never").text
    largest = served.page(path, sort="size").all("a")
    hrefs = [each["href"] for each in largest if "/resolve/" in each.get("href", "")]
    assert hrefs[0].endswith("many.safetensors")


def test_tensors_are_turned_over_in_pages(served, story):
    path = f"/repositories/{REPO}/revisions/{story[1][1]}/tensors"
    page = served.page(path)
    assert "3,002 tensors" in page.text
    assert "1\u2013100 of 3,002 tensors" in page.text
    assert sum(each == "row" for each in (head.get("scope") for head in page.all("th"))) == 100
    assert "3,001\u20133,002 of 3,002" in served.page(path, page="31").text
    assert "3,001\u20133,002 of 3,002" in served.page(path, page="99999").text
    assert "1 of 3,002 tensors" in served.page(path, q="EMBED weight").text
    assert "1 of 3,002 tensors" in served.page(path, dtype="F32").text
    assert "No tensor fits" in served.page(path, q="never").text
    largest = served.page(path, sort="bytes").text
    assert largest.index("embed.weight") < largest.index("norm.weight")


def test_what_changed_is_shown_down_to_the_tensors(served, story):
    first, second, third = story[1]
    path = f"/repositories/{REPO}/compare"
    page = served.page(path, **{"from": first, "to": second})
    for words in (
        "+ 3,000 added",
        "+ 501 added",
        "~ 1 changed",
        f"~ changed README.md {len(CARD)} B",
    ):
        assert words in page.text, words
    last = served.page(path, **{"from": first, "to": second, "tensors": "31"})
    assert "~ changed norm.weight F32 32 F32 32 bytes" in last.text
    assert "1\u2013100 of 503 files" in page.text
    usual = served.page(path)
    assert second[:12] in usual.title
    assert third[:12] in usual.title
    assert "No tensor differs" in usual.text
    assert (
        "Both sides are the same revision" in served.page(path, **{"from": first, "to": first}).text
    )


def test_pages_that_take_long_hold_up_no_client_of_the_hub():
    async def crowd() -> int:
        threads, gate = Threads(), threading.Event()
        pages = [asyncio.ensure_future(threads.page(gate.wait)) for _ in range(40)]
        await asyncio.sleep(0)
        answer = await asyncio.wait_for(threads.call(int, "7"), 60)
        gate.set()
        assert all(await asyncio.gather(*pages))
        threads.close()
        return answer

    assert asyncio.run(crowd()) == 7


@pytest.mark.parametrize(
    "path",
    [
        "/repositories/no/such",
        "/repositories/..%2f..%2fetc%2fpasswd",
        "/repositories/a/b/c/d",
        "/repositories/org/model/revisions/ffffffff",
        "/repositories/org/model/revisions/ffffffff/tensors",
        "/repositories/org/model/revisions/%3Cscript%3E",
        "/repositories/org/model/compare?from=ffff",
        "/repositories/no/such/compare",
        "/repositories/%22%3E%3Cscript%3Ealert(1)%3C/script%3E",
    ],
)
def test_what_is_not_held_is_a_page_that_says_so(served, path):
    page = served.page(path, status=404)
    assert page.all("h1")
    assert not page.all("script")


def test_a_repository_that_is_gone_is_said_to_be(served):
    page = served.page(f"/repositories/{REPO}")
    assert "Gone or private upstream" in page.text or "Not shown by upstream" in page.text


def test_what_lost_its_seal_is_shown_by_its_manifest(story, tmp_path):
    copy = tmp_path / "archive"
    shutil.copytree(story[0], copy)
    shutil.rmtree(copy / "snapshots")
    served = Served(copy)
    page = served.page("/repositories")
    assert "3 revisions have lost their seals" in page.text
    links = [each["href"] for each in page.all("a") if "/revisions/" in each.get("href", "")]
    assert len(links) == 3
    for link in links:
        assert "its seal is lost" in served.page(link).text
    assert "without a seal" in served.page(f"/repositories/{REPO}").text


def test_a_damaged_manifest_is_a_page_that_says_so(story, tmp_path):
    copy = tmp_path / "archive"
    shutil.copytree(story[0], copy)
    for folder in ("manifests", "packs"):
        for path in (copy / folder).rglob("*.*"):
            if path.is_file():
                path.unlink()
    served = Served(copy)
    page = served.page(f"/repositories/{REPO}")
    assert "The card cannot be read" in page.text
    assert "archiver audit" in page.text
    page = served.page(f"/repositories/{REPO}/revisions/{story[1][0]}", status=503)
    assert "This cannot be read" in page.text
