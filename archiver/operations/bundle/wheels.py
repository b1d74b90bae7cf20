"""The wheels that archiver needs on a machine, worked out by the rules of that machine.

What a wheel needs is what it declares; which one runs there its name says.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from functools import cached_property
from typing import TYPE_CHECKING, Final, NamedTuple

from packaging.metadata import parse_email
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.tags import compatible_tags, cpython_tags
from packaging.utils import (
    InvalidName,
    InvalidWheelFilename,
    canonicalize_name,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion

from archiver.archive.bundles.records import TOOLS
from archiver.errors import DamageError, UsageError
from archiver.operations.bundle.own_wheel import own_distribution
from archiver.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from packaging.tags import Tag

_TARGET: Final = re.compile(r"linux-(x86_64|aarch64),py3([0-9]{2})((?:,[a-z0-9-]+)*)\Z")
_PYTHON_LEAST: Final = 11
_GLIBC: Final = 28
"""Wheels are chosen that run with glibc 2.28 of 2018, and newer."""
_OLD_PLATFORMS: Final = {5: "manylinux1", 12: "manylinux2010", 17: "manylinux2014"}
_PLATFORM: Final = re.compile(r"manylinux_2_([0-9]+)_(.+)\Z")
_NOT_EXTRAS: Final = frozenset({"test", "demo"})
_ROUNDS: Final = 40
"""Times that the wheels are chosen anew, since those that were chosen need more."""
_METADATA_MAX: Final = 4 << 20
_LICENCE_MAX: Final = 80
_UNREADABLE: Final = (
    *(OSError, EOFError, IndexError, ValueError, zipfile.BadZipFile, zlib.error),
    *(RuntimeError, NotImplementedError),
)
"""What comes of a file that is no wheel; the last two of one that is encrypted, or packed in a rare way."""


class ToolTarget(NamedTuple):
    """A machine that the tool is for: its processor, Python 3's minor version, and optional parts."""

    machine: str
    python: int
    extras: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> ToolTarget:
        """Return the target that a word such as ``linux-x86_64,py311,smoke`` names; else UsageError."""
        match = _TARGET.match(text.strip().lower())
        if match is None or int(match[2]) < _PYTHON_LEAST:
            raise UsageError(
                f"{text[:80]!r} is no machine that the tool can be brought to.",
                hint="Name it as linux-x86_64,py311 or linux-aarch64,py312; with ,smoke models can run.",
            )
        extras = tuple(sorted({part for part in match[3].split(",") if part}))
        known = _extras()
        for extra in extras:
            if extra not in known:
                raise UsageError(
                    f"archiver has no optional part that is called {extra!r}.",
                    hint=f"There are: {', '.join(known)}.",
                )
        return cls(match[1], int(match[2]), extras)

    def __str__(self) -> str:
        return ",".join((f"linux-{self.machine}", f"py3{self.python}", *self.extras))

    @property
    def list_name(self) -> str:
        """The name of the list of what is to be installed there."""
        return f"{TOOLS}/linux-{self.machine}-py3{self.python}.txt"

    def platforms(self) -> list[str]:
        """Return the names of systems whose wheels run there, the newest first."""
        names = []
        for minor in range(_GLIBC, 4, -1):
            names.append(f"manylinux_2_{minor}_{self.machine}")
            if minor in _OLD_PLATFORMS:
                names.append(f"{_OLD_PLATFORMS[minor]}_{self.machine}")
        return [*names, f"linux_{self.machine}"]

    def tags(self) -> dict[Tag, int]:
        """Return the tags of wheels that run there, with their rank: the best is the first."""
        version, platforms = (3, self.python), self.platforms()
        tags = [
            *cpython_tags(version, [f"cp3{self.python}"], platforms),
            *compatible_tags(version, f"cp3{self.python}", platforms),
        ]
        return {tag: rank for rank, tag in reversed(list(enumerate(tags)))}

    def environment(self) -> dict[str, str]:
        """Return what markers of requirements see there."""
        return {
            "implementation_name": "cpython",
            "implementation_version": f"3.{self.python}.0",
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": f"3.{self.python}.0",
            "python_version": f"3.{self.python}",
            "sys_platform": "linux",
        }


def _extras() -> list[str]:
    declared = own_distribution().metadata.get_all("Provides-Extra") or []
    return sorted(set(declared) - _NOT_EXTRAS)


class Wheel:
    """A wheel on this machine, with what it declares."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.package, self.version, _, self.tags = parse_wheel_filename(path.name)

    @cached_property
    def _declared(self) -> dict[str, object]:
        try:
            with zipfile.ZipFile(self.path) as packed:
                names = [name for name in packed.namelist() if name.endswith(".dist-info/METADATA")]
                info = packed.getinfo(names[0])
                if info.file_size <= _METADATA_MAX:
                    return dict(parse_email(packed.read(info))[0])
            reason = "it says too much of itself"
        except _UNREADABLE as error:
            reason = str(error)
        raise DamageError(
            f"{self.path} is no wheel that can be read: {printable(reason, 200)}.",
            hint="Nothing was written. Fetch it again.",
        )

    def requirements(self) -> Iterator[Requirement]:
        """Yield what it needs, as it declares that."""
        declared = self._declared.get("requires_dist", [])
        for text in declared if isinstance(declared, list) else []:
            try:
                yield Requirement(text)
            except InvalidRequirement:
                raise DamageError(
                    f"{self.path.name} needs {printable(str(text), 100)!r}, which means nothing.",
                    hint="Nothing was written. Take another version of it.",
                ) from None

    @property
    def licence(self) -> str:
        """The licence that it declares, in a few words; ``""``: none."""
        expression = self._declared.get("license_expression")
        text = self._declared.get("license")
        classifiers = self._declared.get("classifiers", [])
        named = [
            str(each).rpartition(" :: ")[2]
            for each in (classifiers if isinstance(classifiers, list) else [])
            if str(each).startswith("License ::")
        ]
        first = str(text or "").strip().partition("\n")[0]
        return printable(str(expression or ", ".join(named) or first), _LICENCE_MAX)

    @property
    def carried_name(self) -> str:
        """The name that it gets on a volume: lowercase, and with one platform where it lists several.

        Of those only the oldest is kept: whoever has a newer system runs it as well.
        """
        stem, _, platforms = self.path.name.lower().removesuffix(".whl").rpartition("-")
        oldest = min(platforms.split("."), key=_age_of)
        return f"{TOOLS}/{stem}-{oldest}.whl"


def _age_of(platform: str) -> tuple[int, str]:
    match = _PLATFORM.match(platform)
    old = {name: minor for minor, name in _OLD_PLATFORMS.items()}
    # The name by number before the one by year: they mean the same.
    return (
        (2 * int(match[1]), platform)
        if match
        else (2 * old.get(platform.partition("_")[0], 1 << 20) + 1, platform)
    )


def wheels_in(folder: Path) -> dict[str, list[Wheel]]:
    """Return the wheels in a folder by package; what has another name is passed over."""
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix == ".whl")
    except OSError as error:
        raise UsageError(
            f"{folder} cannot be listed: {error.strerror}.",
            hint="Name a folder that has the wheels with --tool-wheels.",
        ) from error
    found: dict[str, list[Wheel]] = {}
    for path in paths:
        try:
            wheel = Wheel(path)
        except (InvalidWheelFilename, InvalidName, InvalidVersion):
            continue
        found.setdefault(wheel.package, []).append(wheel)
    return found


class _Need(NamedTuple):
    """A package that is needed: in which versions, with which of its optional parts."""

    versions: SpecifierSet
    extras: frozenset[str]


def own_needs(target: ToolTarget, own: Wheel) -> list[Requirement]:
    """Return what archiver itself needs there, with the optional parts that are asked for."""
    return list(_needs_of(own, frozenset(target.extras), target))


def _needs_of(wheel: Wheel, extras: frozenset[str], target: ToolTarget) -> Iterator[Requirement]:
    for requirement in wheel.requirements():
        marker = requirement.marker
        # Each optional part says what it needs by itself.
        environments = [{**target.environment(), "extra": extra} for extra in ("", *sorted(extras))]
        if marker is None or any(marker.evaluate(environment) for environment in environments):
            requirement.marker = None
            requirement.url = None
            yield requirement


def resolved(
    target: ToolTarget, own: Wheel, available: dict[str, list[Wheel]], pins: dict[str, str]
) -> tuple[list[Wheel], list[Requirement]]:
    """Return the wheels that all of it needs, and what there is no wheel of; own is left out."""
    tags = target.tags()
    needs: dict[str, _Need] = {}
    chosen: dict[str, Wheel] = {}
    for _ in range(_ROUNDS):
        found: dict[str, _Need] = {}
        wheels = [(own, frozenset(target.extras))]
        wheels += [(wheel, needs[name].extras) for name, wheel in chosen.items()]
        for wheel, extras in wheels:
            for each in _needs_of(wheel, extras, target):
                name = canonicalize_name(each.name)
                if name == own.package:
                    continue
                before = found.get(name, _Need(SpecifierSet(), frozenset()))
                found[name] = _Need(before.versions & each.specifier, before.extras | each.extras)
        if found == needs:
            break
        needs = found
        best = {
            name: _best(available.get(name, ()), need, tags, pins.get(name))
            for name, need in needs.items()
        }
        chosen = {name: wheel for name, wheel in best.items() if wheel is not None}
    lacking = [
        Requirement(f"{name}{_extras_of(need)}{need.versions}")
        for name, need in sorted(needs.items())
        if name not in chosen
    ]
    return [chosen[name] for name in sorted(chosen)], lacking


def _extras_of(need: _Need) -> str:
    return f"[{','.join(sorted(need.extras))}]" if need.extras else ""


def _best(
    wheels: Iterable[Wheel], need: _Need, tags: dict[Tag, int], pin: str | None
) -> Wheel | None:
    """Return the newest of these wheels that is right there, of equals the one that fits best."""
    fitting = [
        (
            wheel.version,
            -min(tags[tag] for tag in wheel.tags if tag in tags),
            wheel.path.name,
            wheel,
        )
        for wheel in wheels
        if not wheel.tags.isdisjoint(tags)
        and need.versions.contains(wheel.version, prereleases=True)
        and pin in {None, str(wheel.version)}
    ]
    return max(fitting, key=lambda each: each[:3])[3] if fitting else None
