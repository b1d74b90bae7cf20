"""The tool that a bundle brings: archiver's own wheel, those of what it needs, and what installs them.

The wheels come from a folder, or from the index that pip is set up with.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from importlib import metadata, resources
from pathlib import Path
from typing import TYPE_CHECKING, Final

from blake3 import blake3
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from archiver.archive.bundles.records import TOOLS, ToolFile, Tools, is_tool_name
from archiver.errors import ArchiverError, NetworkError, UsageError
from archiver.operations.bundle.own_wheel import DISTRIBUTION, own_wheel
from archiver.operations.bundle.wheels import ToolTarget, Wheel, own_needs, resolved, wheels_in
from archiver.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_SCRIPTS: Final = ("install.sh", "install.py")
_ROUNDS: Final = 40
"""Times that pip is asked for what was still lacking."""
_PIECE: Final = 1 << 20
_SAID: Final = 3
"""Lines of pip's that are repeated."""


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
            available = wheels_in(self._folder)
            chosen, lacking = resolved(target, own, available, self._pins)
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
        wanted = [str(each) for each in own_needs(target, own)]
        for _ in range(_ROUNDS):
            _download(target, wanted, folder, self._pins or _installed_versions())
            chosen, lacking = resolved(target, own, wheels_in(folder), self._pins)
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
