"""`archiver --help`: every command, in groups, each with a line that says what it does."""

from __future__ import annotations

import re

from archiver.cli.main import COMMANDS, GROUPS


def groups_in(text: str) -> dict[str, list[str]]:
    """The commands that a help text lists, by group; a line that goes on is of the command above."""
    groups: dict[str, list[str]] = {}
    for line in text.splitlines():
        if title := re.fullmatch(r"([A-Z][a-z ]+):", line):
            commands = groups[title[1]] = []
        elif groups and (command := re.match(r"  ([a-z-]+) {2,}\S", line)):
            commands.append(command[1])
    return groups


def test_the_help_lists_the_commands_in_groups(run):
    result = run("--help")
    assert result.code == 0
    groups = groups_in(result.out)
    del groups["Options"]
    assert groups == {title: list(commands) for title, commands in GROUPS.items()}


def test_the_groups_are_those_that_a_person_looks_in():
    assert list(GROUPS) == ["Every day", "Keep", "Carry", "Serve", "Trust", "Look"]
    assert len(COMMANDS) == sum(map(len, GROUPS.values())), "a command stands in two groups"


def test_every_line_of_the_help_fits_a_terminal(run):
    lines = run("--help").out.splitlines()
    assert max(map(len, lines)) <= 80
    for name, (_, text) in COMMANDS.items():
        assert any(line.split() == [name, *text.split()] for line in lines), f"{name} is wrapped"
