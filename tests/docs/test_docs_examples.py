"""Every ``archiver …`` that a page, a help text or a hint shows is one that the command line takes."""

from __future__ import annotations

import re
import shlex
from typing import get_args

import click
import docskit
import msgspec
import pytest

from archiver.archive.advice import Action
from archiver.archive.findings import Finding, TensorRows
from archiver.cli.findings import commands, described, words

_INLINE = re.compile(r"`(archiver [^`]+)`")
_HINT = re.compile(r"'(archiver [a-z][^']*)'")
ALL = docskit.commands()


def shown_in(text: str) -> list[str]:
    """Lines of shell in a page: console blocks, indented examples, inline code, unit files."""
    lines = []
    for block in docskit.blocks(text):
        starts = {"console": "$ ", "ini": "ExecStart=", "text": "   $ "}
        start = starts.get(block.language)
        if start:
            lines += [line.removeprefix(start) for line in block.lines if line.startswith(start)]
    prose = docskit.prose(text)
    lines += [line.strip() for line in prose.splitlines() if line.startswith("    archiver ")]
    return lines + _INLINE.findall(prose)


def check(line: str) -> None:
    """Parse each call in a line; the bare name of a command in prose only has to exist."""
    for arguments in docskit.archiver_calls(line):
        if {"COMMAND", "…"} & set(arguments):
            continue
        if " ".join(arguments) in ALL:
            continue
        try:
            docskit.parse(arguments)
        except click.exceptions.Exit:
            pass  # --help and --version end the parsing
        except click.ClickException as error:
            pytest.fail(f"{shlex.join(arguments)}: {error.format_message()}")


@pytest.mark.parametrize("page", docskit.pages(), ids=docskit.page_id)
def test_what_a_page_shows_is_what_the_command_line_takes(page):
    for line in shown_in(page.read_text(encoding="utf-8")):
        check(line)


def test_pages_show_something_at_all():
    tutorial = (docskit.ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    assert len([call for line in shown_in(tutorial) for call in docskit.archiver_calls(line)]) > 25


@pytest.mark.parametrize("name", ["", *ALL])
def test_the_example_of_a_help_text_parses(name):
    from archiver.cli.main import cli

    epilog = (ALL[name] if name else cli).epilog or ""
    assert epilog.startswith(("Example: archiver ", "Examples: archiver ")), epilog
    calls = docskit.archiver_calls(epilog.partition(": ")[2])
    assert calls
    for arguments in calls:
        docskit.parse(arguments)
        assert not name or name.split() == arguments[: len(name.split())]


def test_commands_that_messages_advise_exist():
    for path in sorted((docskit.ROOT / "archiver").rglob("*.py")):
        for call in _HINT.findall(path.read_text(encoding="utf-8")):
            words = re.sub(r"\{[^}]*\}", " X", call).split()[1:]
            name = next((n for n in (" ".join(words[:2]), words[0]) if n in ALL), None)
            assert name, f"{path.name}: {call}"
            options = {word.partition("=")[0] for word in words if word.startswith("-")}
            assert options <= docskit.options_of(ALL[name]), f"{path.name}: {call}"


def sample(kind: type) -> Action:
    """An action, with every field filled; what it says is said of both kinds of policy."""
    return kind(**{field.name: "x" for field in msgspec.structs.fields(kind) if field.type is str})


KINDS = get_args(Action)


@pytest.mark.parametrize("kind", KINDS)
def test_the_commands_of_an_action_are_ones_that_the_command_line_takes(kind):
    action = sample(kind)
    both = [action]
    if "append_only" in kind.__struct_fields__:
        both.append(msgspec.structs.replace(action, append_only=True))
    for action in both:
        assert words((action,))
        for line in commands(action):
            if line[0] == "archiver":
                docskit.parse(list(line[1:]))


def test_the_page_of_findings_lists_every_action_and_every_key():
    page = (docskit.ROOT / "docs" / "findings.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^\| `([a-z-]+)` \| ((?:`\w+`(?:, )?)*) ?\|", page, re.MULTILINE))
    wanted = {kind.__struct_config__.tag: kind.__struct_fields__ for kind in KINDS}
    named = {do: tuple(re.findall(r"\w+", listed.get(do, ""))) for do in wanted}
    assert named == wanted
    assert wanted.keys() - listed.keys() == set()
    full = Finding(
        "pack-missing",
        "Gone.",
        "path",
        object="object",
        pack="pack",
        snapshots=("a", "b"),
        tensors=(TensorRows("t", 1, 2),),
        actions=(sample(KINDS[0]),),
        whole_in="other-packs",
        set_aside="there",
        copied_from="packs",
        accepted=True,
    )
    several = msgspec.structs.replace(full, tensors=full.tensors * 2)
    for key in described(full).keys() | described(several).keys():
        assert f"`{key}`" in page.partition("## In JSON")[2], key


def test_the_readme_shows_steps_that_the_demonstration_has():
    story = (docskit.ROOT / "archiver" / "demo" / "story.py").read_text(encoding="utf-8")
    readme = (docskit.ROOT / "README.md").read_text(encoding="utf-8")
    shown = re.findall(r"^\d+\. (.+)$", readme, re.MULTILINE)
    assert len(shown) > 3
    assert all(f'"{title}"' in story for title in shown)
