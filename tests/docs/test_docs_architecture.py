"""The page on the architecture is true: every module is on its map, every step of its journeys exists."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import PurePosixPath
from typing import NamedTuple

import docskit
import pytest

PACKAGE = docskit.ROOT / "archiver"
PAGE = (docskit.ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
_CODE = re.compile(r"`([^`]+)`")
_MAP_LINE = re.compile(r"(?P<indent> *)(?P<names>[\w]+(?:/|\.py(?: +\w+\.py)*))(?P<text>.*)")


class Step(NamedTuple):
    """A row of a journey: a module, the functions or classes in it, and what is handed on."""

    module: str
    names: tuple[str, ...]
    types: tuple[str, ...]


def modules() -> set[str]:
    """The modules of the package; what only makes a folder a package is none."""
    paths = (path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))
    return {path for path in paths if not path.endswith("__init__.py")}


def mapped() -> list[tuple[str, str]]:
    """The modules on the map, each with what is said of it; a line may name several commands."""
    entries: list[tuple[str, str]] = []
    for block in docskit.blocks(PAGE[PAGE.index("## Every module") :]):
        folders: list[str] = []
        for line in filter(None, block.lines):
            match = _MAP_LINE.fullmatch(line)
            assert match, f"{line!r} is no line of the map"
            folders = folders[: len(match["indent"]) // 2]
            names = match["names"].split()
            if names[0].endswith("/"):
                folders.append(names[0])
            entries += [
                ("".join(folders) + name, match["text"].strip() or " ".join(names[1:]))
                for name in names
                if name.endswith(".py")
            ]
    return entries


def steps() -> list[Step]:
    """Every row of a table that begins with a number and a module."""
    return [
        Step(
            _CODE.findall(row[1])[0],
            tuple(_CODE.findall(row[2])),
            tuple(name for name in _CODE.findall(row[3]) if re.fullmatch(r"[A-Z]\w*", name)),
        )
        for row in docskit.table_rows(PAGE)
        if row[0].isdecimal()
    ]


@cache
def defined(module: str) -> frozenset[str]:
    """What a module defines at its top, and in its classes as ``Class.name``."""
    names: set[str] = set()

    def gather(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                names.add(prefix + node.name)
            if isinstance(node, ast.ClassDef):
                gather(node.body, f"{prefix}{node.name}.")
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                names.update(prefix + name.id for name in targets if isinstance(name, ast.Name))

    gather(ast.parse((PACKAGE / module).read_text(encoding="utf-8")).body, "")
    return frozenset(names)


def test_every_module_is_on_the_map_once():
    named = [module for module, _ in mapped()]
    assert sorted(modules() - set(named)) == []
    assert sorted(set(named) - modules()) == []
    assert len(named) == len(set(named))


def test_every_module_on_the_map_says_what_it_holds():
    assert not [module for module, text in mapped() if not text]


def test_the_journeys_are_told():
    assert len(steps()) > 25


@pytest.mark.parametrize("step", steps(), ids=lambda step: f"{step.module}:{step.names[0]}")
def test_a_step_of_a_journey_is_in_the_code(step):
    assert set(step.names) <= defined(step.module)
    types = set().union(*(defined(module) for module in modules()))
    assert set(step.types) <= types


def test_every_module_that_the_page_mentions_is_there():
    """By its path below the package, or from the top of the project."""
    paths = [name for name in _CODE.findall(docskit.prose(PAGE)) if name.endswith(".py")]
    gone = [
        path
        for path in paths
        if not (PACKAGE / PurePosixPath(path)).is_file()
        and not (docskit.ROOT / PurePosixPath(path)).is_file()
    ]
    assert not gone
