"""The tool that a bundle brings: archiver's own wheel, those of what it needs, and what installs them.

For each machine that is asked for, what is needed is worked out from what the wheels declare, by the
rules of that machine. They come from a folder, or from the index that pip is set up with.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import zipfile
import zlib
from contextlib import suppress
from functools import cached_property
from importlib import metadata, resources
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from blake3 import blake3
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
from packaging.version import InvalidVersion, Version

from archiver.archive.bundles.records import TOOLS, ToolFile, Tools, is_tool_name
from archiver.errors import ArchiverError, DamageError, NetworkError, UsageError
from archiver.operations.bundle.own_wheel import DISTRIBUTION, own_distribution, own_wheel
from archiver.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from packaging.tags import Tag

_TARGET: Final = re.compile(r"linux-(x86_64|aarch64),py3([0-9]{2})((?:,[a-z0-9-]+)*)\Z")
_PYTHON_LEAST: Final = 11
_GLIBC: Final = 28
"""Wheels are chosen that run with glibc 2.28 of 2018, and newer."""
_OLD_PLATFORMS: Final = {5: "manylinux1", 12: "manylinux2010", 17: "manylinux2014"}
_PLATFORM: Final = re.compile(r"manylinux_2_([0-9]+)_(.+)\Z")
_NOT_EXTRAS: Final = frozenset({"test", "demo"})
_SCRIPTS: Final = ("install.sh", "install.py")
_ROUNDS: Final = 40
_PIECE: Final = 1 << 20
_METADATA_MAX: Final = 4 << 20
_LICENCE_MAX: Final = 80
_UNREADABLE: Final = (
    *(OSError, EOFError, IndexError, ValueError, zipfile.BadZipFile, zlib.error),
    *(RuntimeError, NotImplementedError),
)
"""What comes of a file that is no wheel; the last two of one that is encrypted, or packed in a rare way."""
_SAID: Final = 3
"""Lines of pip's that are repeated."""


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


class ToolFiles:
    """The files that bring the tool, and where their bytes are: gathered when they are first asked for."""

    def __init__(self, targets: Sequence[ToolTarget], folder: Path | None) -> None:
        """``folder`` has the wheels; None: pip fetches them."""
        self._targets = targets
        self._folder = folder
        self._scratch = tempfile.TemporaryDirectory(prefix="archiver-tool-")
        self._content: dict[str, Path | bytes] = {}
        self._pins: dict[str, str] = {}

    @property
    def targets(self) -> tuple[str, ...]:
        """The machines that they are for, in words."""
        return tuple(map(str, self._targets))

    def close(self) -> None:
        """Remove what was fetched."""
        self._scratch.cleanup()

    def pin(self, tools: Tools) -> None:
        """Take the versions that a bundle that was begun has."""
        self._pins = {file.package: file.version for file in tools.files if file.package}

    def plan(self) -> Tools:
        """Return the files that there are to be.

        Raises:
            UsageError: A wheel that is needed is not in the folder, or a name cannot be carried.
            NetworkError: pip could not fetch what is needed.
            DamageError: A wheel cannot be read, or the installation that runs was changed.
        """
        files: dict[str, ToolFile] = {}
        own = self._own()
        lists: dict[str, bytes] = {}
        for target in self._targets:
            rows = []
            for wheel in [own, *self._closure(target, own)]:
                file = self._add(wheel)
                files[file.name] = file
                rows.append(f"{wheel.package}=={wheel.version} --hash=sha256:{file.sha256}")
            lists[target.list_name] = (
                f"# {target}: what tools/install.sh installs there, each file by its SHA-256.\n"
                + "\n".join(rows)
                + "\n"
            ).encode()
        if len(lists) < len(self._targets):
            raise UsageError(
                "Two of the machines differ in their optional parts only.",
                hint="Name each machine once with --with-tool, with all parts that it is to have.",
            )
        scripts = {f"{TOOLS}/{name}": _script(name) for name in _SCRIPTS}
        for name, data in {**lists, **scripts}.items():
            self._content[name] = data
            sha256 = hashlib.sha256(data).hexdigest()
            files[name] = ToolFile(name, len(data), blake3(data).hexdigest(), sha256)
        return Tools(self.targets, tuple(files[name] for name in sorted(files)))

    def read(self, name: str) -> Iterator[bytes]:
        """Yield the bytes of a file; UsageError if there is none of this name."""
        if not self._content:
            self.plan()
        content = self._content.get(name)
        if content is None:
            raise another_tool(name)
        if isinstance(content, bytes):
            yield content
            return
        with content.open("rb") as file:
            while piece := file.read(_PIECE):
                yield piece

    def _own(self) -> Wheel:
        name, data = own_wheel()
        path = Path(self._scratch.name) / name
        path.write_bytes(data)
        return Wheel(path)

    def _add(self, wheel: Wheel) -> ToolFile:
        name = wheel.carried_name
        if not is_tool_name(name):
            raise UsageError(
                f"{printable(wheel.path.name, 200)} has a name that not every medium can hold.",
                hint="Nothing was written. Take another version of it.",
            )
        plain, sha256, size = blake3(), hashlib.sha256(), 0
        with wheel.path.open("rb") as file:
            while piece := file.read(_PIECE):
                plain.update(piece)
                sha256.update(piece)
                size += len(piece)
        self._content[name] = wheel.path
        return ToolFile(
            *(name, size, plain.hexdigest(), sha256.hexdigest()),
            *(wheel.package, str(wheel.version), wheel.licence),
        )

    # ---- what is needed

    def _closure(self, target: ToolTarget, own: Wheel) -> list[Wheel]:
        """Return the wheels that archiver needs on a machine, by name, without its own."""
        if self._folder is not None:
            available = _wheels_in(self._folder)
            chosen, lacking = _resolved(target, own, available, self._pins)
            if lacking:
                unfit = [wheel for wheels in available.values() for wheel in wheels]
                others = {wheel.package: wheel.path.name for wheel in unfit}
                named = [
                    f"{each} ({others[name]} is there, which does not fit)"
                    if name in others
                    else f"{each}"
                    for each in lacking
                    for name in (canonicalize_name(each.name),)
                ]
                raise UsageError(
                    f"{self._folder} has no wheel for {target} of: {', '.join(named)}.",
                    hint="Nothing was written. Put those wheels there too.",
                )
            return chosen
        folder = Path(self._scratch.name) / f"{target.machine}-{target.python}"
        folder.mkdir(exist_ok=True)
        wanted = [str(each) for each in _own_needs(target, own)]
        for _ in range(_ROUNDS):
            _download(target, wanted, folder, self._pins or _installed_versions())
            chosen, lacking = _resolved(target, own, _wheels_in(folder), self._pins)
            if not lacking:
                return chosen
            # pip looks at markers as if it were for the machine that it runs on.
            wanted = [str(each) for each in lacking]
        raise UsageError(
            f"What archiver needs for {target} was not found in {_ROUNDS} rounds: {', '.join(wanted)}."
        )


def another_tool(name: str) -> UsageError:
    """Return the error for a file of the tool that is not what was planned."""
    return UsageError(
        f"{name} is another one than when this bundle was begun.",
        hint="Export into a new folder.",
    )


def _script(name: str) -> bytes:
    return (resources.files("archiver") / "carried" / name).read_bytes()


def _wheels_in(folder: Path) -> dict[str, list[Wheel]]:
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


def _own_needs(target: ToolTarget, own: Wheel) -> list[Requirement]:
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


def _resolved(
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


# ---- pip


def _installed_versions() -> dict[str, str]:
    """Return the versions that run here: what is carried is what was tried."""
    versions: dict[str, str] = {}
    for distribution in metadata.distributions():
        name = distribution.metadata["Name"]
        if name and canonicalize_name(name) != DISTRIBUTION:
            with suppress(InvalidVersion):  # of something else that lies here: no index has it
                versions[canonicalize_name(name)] = Version(distribution.version).public
    return versions


def _download(
    target: ToolTarget, wanted: Sequence[str], folder: Path, versions: dict[str, str]
) -> None:
    """Let pip fetch wheels of these requirements, and of all that they need."""
    constraints = folder / "constraints"
    constraints.write_text("".join(f"{name}=={each}\n" for name, each in sorted(versions.items())))
    command = [
        *(*_pip(), "download", "--quiet", "--disable-pip-version-check", "--no-input"),
        *("--only-binary", ":all:", "--dest", str(folder), "--constraint", str(constraints)),
        *("--implementation", "cp", "--python-version", f"3.{target.python}"),
        *(word for each in target.platforms() for word in ("--platform", each)),
        *wanted,
    ]
    try:
        done = subprocess.run(  # noqa: S603 - our own words, and what wheels declare, as requirements
            command, capture_output=True, text=True, errors="replace", check=False
        )
    except OSError as error:
        raise ArchiverError(f"pip cannot be run: {error.strerror}.") from error
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise NetworkError(
            f"pip could not fetch the wheels for {target}: "
            f"{' '.join(printable(line, 300) for line in said[-_SAID:]) or 'it did not say why'}",
            hint="Nothing was written. Either pip reaches no index of packages, or that has no wheel for "
            "the machine. A folder that has the wheels can be named with --tool-wheels.",
        )


def _pip() -> list[str]:
    """Return the words that run pip, also where only the one that Python brings is there."""
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    bundled = importlib.util.find_spec("ensurepip")
    for place in (bundled.submodule_search_locations or ()) if bundled else ():
        for path in sorted(Path(place, "_bundled").glob("pip-*.whl")):
            return [sys.executable, os.fspath(path / "pip")]
    raise UsageError(
        "There is no pip for this Python, which would fetch the wheels of the tool.",
        hint="Name a folder that has them with --tool-wheels.",
    )
