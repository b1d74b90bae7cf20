"""What the tests of the documentation share: the pages, their headings, code blocks and commands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from archiver.cli.main import cli

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(r"^ *(```+|~~~+)")
_RUN = "<!-- run -->"
_VARYING = re.compile(r"\b[0-9a-f]{12,}\b|\d[\d.,:TZ-]*|\b[kMG]?B\b| +")


def pages() -> list[Path]:
    """Every Markdown page of the project."""
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def page_id(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


class Block(NamedTuple):
    """A fenced block: its language, whether it is marked as run, its lines, and what stands before it."""

    language: str
    run: bool
    lines: list[str]
    mark: str = ""


def blocks(text: str) -> Iterator[Block]:
    fence, language, lines, before = "", "", [], ""
    for line in text.splitlines():
        mark = _FENCE.match(line)
        if not fence and mark:
            fence, language, lines = mark[1], line.strip().lstrip("`~").strip(), []
            run, mark_before = before == _RUN, before
        elif fence and line.strip() == fence:
            fence = ""
            yield Block(language, run, lines, mark_before)
        elif fence:
            lines.append(line)
        if line.strip():
            before = line.strip()
    assert not fence, "a code block is not closed"


class Step(NamedTuple):
    """A command, what the page shows of its output, and the mark of its block."""

    command: str
    output: list[str]
    mark: str


def steps(text: str, *marks: str) -> list[Step]:
    """The commands of the blocks that have one of these marks."""
    found: list[Step] = []
    for block in blocks(text):
        if block.mark not in (marks or (_RUN,)):
            continue
        for line in block.lines:
            if line.startswith("$ "):
                found.append(Step(line[2:], [], block.mark))
            else:
                found[-1].output.append(line)
    return found


def masked(line: str) -> str:
    """A line of output, without what differs from run to run."""
    return _VARYING.sub("#", line.strip())


def prose(text: str) -> str:
    """The text without its fenced blocks."""
    outside, fence = [], ""
    for line in text.splitlines():
        mark = _FENCE.match(line)
        if mark and not fence:
            fence = mark[1]
        elif fence and line.strip() == fence:
            fence = ""
        elif not fence:
            outside.append(line)
    return "\n".join(outside)


def headings(text: str) -> list[tuple[int, str]]:
    return [
        (len(line) - len(line.lstrip("#")), line.lstrip("#").strip())
        for line in prose(text).splitlines()
        if re.match(r"#{1,6} ", line)
    ]


def section(text: str, title: str) -> str:
    """What stands below a heading, up to the next heading of any level."""
    lines = text.splitlines()
    start = next(n for n, line in enumerate(lines) if re.fullmatch(rf"#+ {re.escape(title)}", line))
    rest = lines[start + 1 :]
    end = next((n for n, line in enumerate(rest) if re.match(r"#+ ", line)), len(rest))
    return "\n".join(rest[:end])


def table_rows(text: str) -> list[list[str]]:
    """The cells of the rows of every table, without heads."""
    rows = []
    lines = text.splitlines()
    for number, line in enumerate(lines):
        below = lines[number + 1] if number + 1 < len(lines) else ""
        if (
            line.startswith("|")
            and not re.match(r"\|\s*-", line)
            and not re.match(r"\|\s*-", below)
        ):
            cells = re.split(r"(?<!\\)\|", line.strip().strip("|"))
            rows.append([cell.strip().replace("\\|", "|") for cell in cells])
    return rows


def commands() -> dict[str, click.Command]:
    """Every command by the words that name it, groups too."""
    by_name: dict[str, click.Command] = {}

    def walk(group: click.Group, words: tuple[str, ...]) -> None:
        context = click.Context(group)
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None
            by_name[" ".join((*words, name))] = command
            if isinstance(command, click.Group):
                walk(command, (*words, name))

    walk(cli, ())
    return by_name


def options_of(command: click.Command) -> set[str]:
    """The spellings of all options of a command."""
    return {
        spelling
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for spelling in (*parameter.opts, *parameter.secondary_opts)
    } | {"-h", "--help"}


def archiver_calls(text: str) -> list[list[str]]:
    """The arguments of each ``archiver …`` in a line of shell; pipes and the like end one."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    simple: list[list[str]] = [[]]
    for token in lexer:
        if set(token) <= set("();<>|&"):
            simple.append([])
        elif simple[-1] or "=" not in token:  # not an assignment before a command
            simple[-1].append(token)
    return [words[1:] for words in simple if words and words[0].split("/")[-1] == "archiver"]


def parse(arguments: list[str]) -> None:
    """Let click parse a command line to its end without running anything; raises if it cannot."""
    context = cli.make_context("archiver", list(arguments))
    command: click.Command = cli
    while isinstance(command, click.Group):
        rest = [*context._protected_args, *context.args]
        if not rest and command.invoke_without_command:
            return
        if not rest:
            raise click.UsageError(f"{arguments} names no command.")
        name, inner, rest = command.resolve_command(context, rest)
        assert inner is not None
        command, context = inner, inner.make_context(name, rest, parent=context)
