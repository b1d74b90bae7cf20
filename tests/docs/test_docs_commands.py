"""docs/commands.md and the README's table say what the command line really has, all of it."""

from __future__ import annotations

import re

import click
import docskit
import pytest

from archiver.cli.main import COMMANDS, GROUPS

PAGE = (docskit.ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
README = (docskit.ROOT / "README.md").read_text(encoding="utf-8")
ALL = docskit.commands()
LEAVES = {name: command for name, command in ALL.items() if not isinstance(command, click.Group)}
PROSE = {
    "Further folders of packs",
    "Commands",
    "Options of every command",
    "The log",
    "Words used below",
    "Memory",
    "Environment",
}
_SPELLING = re.compile(r"(?<![\w-])(--[a-z][a-z-]*|-[A-Za-z])(?![\w-])")


def documented(title: str) -> set[str]:
    """The options in the first column of a section's tables."""
    rows = docskit.table_rows(docskit.section(PAGE, title))
    return {spelling for row in rows for spelling in _SPELLING.findall(row[0])}


COMMON = documented("Options of every command")


def test_the_headings_are_the_commands():
    assert {title for _, title in docskit.headings(PAGE)} == set(ALL) | PROSE


def test_the_commands_stand_in_the_order_of_the_help():
    titles = [title for level, title in docskit.headings(PAGE) if level == 2 and title not in PROSE]
    assert titles == list(COMMANDS)


def test_the_contents_list_the_commands_in_the_groups_of_the_help():
    titles = [title for _, title in docskit.headings(PAGE) if title not in PROSE]
    expected = {
        group: [title for name in commands for title in titles if title.split()[0] == name]
        for group, commands in GROUPS.items()
    }
    lines = re.findall(r"^- ([A-Z][a-z ]+): (.*)$", PAGE.partition("\n## ")[0], re.MULTILINE)
    assert {group: re.findall(r"\[([a-z -]+)\]", line) for group, line in lines} == expected


def test_every_command_has_the_common_options():
    assert {
        "-C",
        "--archive",
        "--json",
        "-q",
        "--quiet",
        "-v",
        "--verbose",
        "-h",
        "--help",
    } <= COMMON
    for name, command in LEAVES.items():
        assert docskit.options_of(command) >= COMMON, name


@pytest.mark.parametrize("name", LEAVES)
def test_the_options_of_a_command_are_those_documented(name):
    assert documented(name) == docskit.options_of(LEAVES[name]) - COMMON


@pytest.mark.parametrize("name", LEAVES)
def test_the_choices_and_defaults_of_an_option_are_those_documented(name):
    rows = docskit.table_rows(docskit.section(PAGE, name))
    for option in LEAVES[name].params:
        row = next((row for row in rows if option.opts[-1] in row[0]), None)
        if row is None or row[1].startswith("As for"):
            continue
        if isinstance(option.type, click.Choice):
            assert "|".join(option.type.choices) in row[0]
        if getattr(option, "show_default", False):
            assert re.search(rf"`{option.default}`|\b{option.default}\b", row[1]), option.opts


@pytest.mark.parametrize("name", LEAVES)
def test_a_command_is_shown_with_an_example(name):
    assert f"    archiver {name}" in docskit.section(PAGE, name)


def test_the_environment_variables_are_documented():
    source = "".join(
        path.read_text(encoding="utf-8") for path in (docskit.ROOT / "archiver").rglob("*.py")
    )
    for name in set(re.findall(r"\bARCHIVER_[A-Z]+\b", source)):
        assert f"`{name}" in PAGE, name


def test_the_readme_lists_every_command_in_the_order_of_the_help():
    rows = docskit.table_rows(docskit.section(README, "Commands"))
    assert [row[0].strip("`") for row in rows] == list(COMMANDS)
    for name, _, example in rows:
        assert example.startswith(f"`archiver {name.strip('`')}")


def test_every_command_has_one_line_of_help_that_says_the_same_in_both_places():
    for name, (_, text) in COMMANDS.items():
        help_text = (ALL[name].help or "").strip()
        assert help_text, name
        assert text.endswith(".")
        assert help_text.startswith(text.partition(". ")[0].rstrip(".")), name
