"""Names and words of strangers on every page: shown, escaped, and taken for nothing else."""

from __future__ import annotations

import json
import os

import pytest
from kit.cli import invoke
from kit.repository import safetensors
from pageskit import Served

MARK = "\"'><script>alert(1)</script>"
RTL = "\u202egpj.exe"
CONTROL = "\x1b[31m\n"
LONG = "n" * 20_000
CARD = f"""---
license: {json.dumps(MARK)}
tags: [{json.dumps(RTL)}, {json.dumps(LONG)}]
base_model: {json.dumps(MARK)}
---
# Title {MARK}

<img src="https://tracker.example/x.png" alt="{RTL}"> [x](javascript:alert(1)) </main></body>
"""
NAMES = [
    f"{MARK.replace('/', '|')}.txt",
    f"{RTL}.txt",
    f"a{CONTROL}b.txt",
    "a b%2F?#&.txt",
    "{{ 7*7 }}.txt",
]


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    os.environ["HOME"] = str(folder / "home")
    root = folder / "archive"
    assert invoke("init", "-q", "-C", root) == 0
    for number in range(2):
        files = folder / f"model{number}"
        files.mkdir()
        for name in NAMES:
            (files / name).write_bytes(b"%d" % number)
        tensors = dict.fromkeys(
            (MARK, RTL, CONTROL, LONG, "a.b", "{{ 7*7 }}"), ("U8", (1,), b"%d" % number)
        )
        (files / "model.safetensors").write_bytes(safetensors(tensors))
        (files / "README.md").write_text(CARD)
        (files / "config.json").write_text(json.dumps({"architectures": [MARK], "model_type": RTL}))
        words = ("--as", "org/model", "--min-free", "0B")
        assert invoke("import", "-q", "-C", root, files, *words) == 0
    return Served(root)


def paths(served) -> list[str]:
    page = served.page("/repositories/org/model")
    links = {each["href"] for each in page.all("a") if "/revisions/" in each.get("href", "")}
    below = [f"{link}{end}" for link in sorted(links) for end in ("", "/files", "/tensors")]
    return ["/repositories", "/repositories/org/model", "/repositories/org/model/compare", *below]


def test_no_page_takes_a_strangers_words_for_anything_else(served):
    asked = paths(served)
    assert len(asked) == 9
    for path in asked:
        page = served.page(path)
        # The strict reader has seen that nothing is inline or elsewhere; what is there is only ours.
        assert all(each["src"].startswith("/static/") for each in page.all("script"))
        for sign in ("\u202e", "\x1b", "tracker.example"):
            assert sign not in page.source, (path, sign)
        assert "49.txt" not in page.text
        assert len(page.source) < 300_000


def test_hostile_names_are_shown_as_they_are(served):
    _, _, _, _, files, tensors, *_ = paths(served)
    shown = served.page(files).text
    for words in (
        "\"'><script>alert(1)<|script>.txt",
        r"\u202egpj.exe",
        r"a\x1b[31m\nb.txt",
        "{{ 7*7 }}.txt",
    ):
        assert words in shown, words
    shown = served.page(tensors).text
    for words in (MARK, r"\u202egpj.exe", r"\x1b[31m\n", "n" * 400 + "…"):
        assert words in shown, words


def test_a_file_of_any_name_can_be_had_by_its_link(served):
    page = served.page(paths(served)[4])
    links = [each["href"] for each in page.all("a") if "/resolve/" in each.get("href", "")]
    assert len(links) == len(NAMES) + 3
    for link in links:
        assert link.startswith("/org/model/resolve/")
        answer = served.get(link)
        assert answer.status_code == 200, link
        assert "text/html" not in answer.headers["content-type"]


KEYS = ("q", "family", "dtype", "size", "licence", "sort", "in", "page", "files")


@pytest.mark.parametrize(
    "value", [MARK, RTL, "-1", "9" * 100, "\x00", "%", "a" * 5000, "''", "\u0663"]
)
def test_no_query_breaks_a_page(served, value):
    query = dict.fromkeys(KEYS, value)
    for path in ("/repositories", "/repositories/org/model", *paths(served)[2:6]):
        page = served.page(path, **query)
        assert page.all("h1")
    assert served.get("/repositories/org/model/compare", **{"from": value}).status_code == 404
