"""docs/reliability.md: every promise names the tests that show it, and those tests are there."""

from __future__ import annotations

import re

import docskit
import pytest

PAGE = (docskit.ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
PROMISES = PAGE[PAGE.index("\n## The promises") : PAGE.index("\n## Faults, and what")]
_TEST = re.compile(r"`(tests/[a-z0-9_/]+\.py)::(test_[a-z0-9_]+)`")


def promises() -> list[str]:
    """The bullets of the section, each with the lines below it."""
    found = re.split(r"^- ", PROMISES, flags=re.MULTILINE)[1:]
    return [part.split("\n\n")[0] for part in found]


def test_there_are_promises():
    assert len(promises()) > 20
    assert all(one.startswith("**") for one in promises())


@pytest.mark.parametrize("promise", promises(), ids=lambda text: text[2:40])
def test_each_promise_names_tests_that_are_there(promise):
    named = _TEST.findall(promise)
    assert named
    assert len(named) == promise.count("tests/")
    for path, name in named:
        source = (docskit.ROOT / path).read_text(encoding="utf-8")
        assert re.search(rf"^def {name}\(", source, re.MULTILINE), f"{path}::{name}"
