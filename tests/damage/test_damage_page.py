"""``docs/reliability.md`` has the damage table, cell by cell."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from damagekit import CELLS, DAMAGES, DOES_NOT_APPLY, TARGETS, on_page

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
TEXT = PAGE.read_text(encoding="utf-8")
SECTION = TEXT.partition("## Damage, file by file\n")[2].partition("\n## ")[0]


def rows():
    lines = [line for line in SECTION.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_rows_and_columns():
    head, _, *body = rows()
    assert head == ["", *DAMAGES]
    assert [name for name, *_ in body] == [f"**{kind}**" for kind in TARGETS]


@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("damage", DAMAGES)
def test_each_cell(kind, damage):
    (row,) = [row for row in rows() if row[0] == f"**{kind}**"]
    assert row[1 + list(DAMAGES).index(damage)] == on_page(kind, damage)


@pytest.mark.parametrize(("kind", "damage"), DOES_NOT_APPLY)
def test_each_reason(kind, damage):
    lines = [line for line in SECTION.splitlines() if line.endswith(f"{_reason(kind, damage)}.")]
    assert any(f"**{kind}**" in line and f", {damage}:" in line for line in lines)


def _reason(kind, damage):
    return DOES_NOT_APPLY[kind, damage]


def test_each_healer_is_explained():
    used = {on_page(*cell).partition(": ")[2] for cell in CELLS}
    words = {word.removeprefix("else ") for text in used for word in re.split("[,;] ", text)}
    explained = set(re.findall(r"^- \*\*(.+?)\*\*: ", SECTION, re.MULTILINE))
    assert words <= explained
