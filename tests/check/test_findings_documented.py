"""The page lists the codes that there are, says three things about each, and no code is without use."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

import archiver
from archiver.archive.findings import REMARKS, Code, Finding

PAGE = (Path(__file__).parents[2] / "docs/findings.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^### `([a-z-]+)`\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL))
CODES = get_args(Code)


def test_code_and_page_list_the_same_codes():
    assert sorted(SECTIONS) == sorted(CODES)
    assert len(set(CODES)) == len(CODES)
    assert len(re.findall(r"^### ", PAGE, re.MULTILINE)) == len(CODES)


@pytest.mark.parametrize("code", CODES)
def test_each_code_says_what_it_is_who_is_hit_and_what_to_do(code):
    parts = re.findall(r"^- (What|Hit|Next): (\S.*)", SECTIONS[code], re.MULTILINE)
    assert [name for name, _ in parts] == ["What", "Hit", "Next"]


def test_the_remarks_are_those_of_the_page():
    listed = PAGE.partition("\n## Remarks\n")[2].partition("\n## ")[0]
    assert set(re.findall(r"^### `([a-z-]+)`", listed, re.MULTILINE)) == REMARKS


@pytest.mark.parametrize("code", CODES)
def test_each_code_is_reported_somewhere(code):
    root = Path(archiver.__file__).parent
    sources = (path.read_text(encoding="utf-8") for path in root.rglob("*.py"))
    uses = sum(source.count(f'"{code}"') for source in sources)
    assert uses > (2 if code in REMARKS else 1)


@pytest.mark.parametrize("command", re.findall(r"`archiver ([a-z-]+)", PAGE))
def test_the_page_names_commands_that_there_are(command):
    from archiver.cli.main import COMMANDS

    assert command in COMMANDS


def test_a_finding_is_a_remark_by_its_code():
    assert Finding("unknown-file", "").remark
    assert not Finding("pack-missing", "").remark
