"""docs/exit-codes.md explains every exit code, and the README's short table agrees with it."""

from __future__ import annotations

import re

import docskit

from archiver.errors import ExitCode

PAGE = (docskit.ROOT / "docs" / "exit-codes.md").read_text(encoding="utf-8")
README = (docskit.ROOT / "README.md").read_text(encoding="utf-8")
SUMMARY = docskit.table_rows(docskit.section(PAGE, "Exit codes"))


def test_the_summary_has_every_code_under_its_name():
    names = {int(re.findall(r"\d+", row[0])[0]): row[1] for row in SUMMARY}
    assert names == {int(code): code.name.lower().replace("_", " ") for code in ExitCode}


def test_every_code_has_a_section_and_says_what_to_do():
    for code in ExitCode:
        text = docskit.section(PAGE, f"{int(code)} {code.name.lower().replace('_', ' ')}")
        assert "**Do:**" in text or "none ends with this code" in " ".join(text.split()), code


def test_no_section_is_about_another_code():
    found = [title for level, title in docskit.headings(PAGE) if level > 1]
    assert [int(title.split()[0]) for title in found] == [int(code) for code in ExitCode]


def test_the_readme_says_the_same():
    short = [
        (int(row[0]), row[1]) for row in docskit.table_rows(docskit.section(README, "Exit codes"))
    ]
    assert short == [(int(re.findall(r"\d+", row[0])[0]), row[2]) for row in SUMMARY]
