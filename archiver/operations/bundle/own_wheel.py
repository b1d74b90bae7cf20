"""A wheel of the running archiver, made from its installed files: no network, always the same bytes.

It may be installed from a wheel, or be a source tree that is installed editable: the files are those of
the package that runs, and what describes them is what the installer wrote beside it.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
import stat
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final

from packaging.requirements import Requirement

import archiver
from archiver.errors import ArchiverError, DamageError

if TYPE_CHECKING:
    from collections.abc import Iterator

DISTRIBUTION: Final = "weights-archiver"
_MODULE: Final = "archiver"
_TIME: Final = (1980, 1, 1, 0, 0, 0)
_LEFT_OUT: Final = frozenset(
    {"INSTALLER", "REQUESTED", "RECORD", "direct_url.json", "uv_cache.json"}
)
"""What an installer notes of one installation."""
_FILE_MAX: Final = 16 << 20
_REINSTALL: Final = (
    "Install archiver again, or name a folder that has its wheel with --tool-wheels."
)


def own_distribution() -> metadata.Distribution:
    """Return the installation that runs; ArchiverError if it is none that an installer made."""
    try:
        return metadata.distribution(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        raise ArchiverError(
            f"What runs here was not installed as {DISTRIBUTION}: nothing says what it needs.",
            hint="Install it with pip, also from its source, then export again.",
        ) from None


def own_wheel() -> tuple[str, bytes]:
    """Return the file name and the bytes of a wheel of what runs here.

    Raise DamageError if it was changed since it was installed from a wheel, ArchiverError if it cannot
    be found.
    """
    distribution = own_distribution()
    folder = Path(archiver.__file__).parent
    if not folder.is_dir():
        raise ArchiverError(
            f"{folder} is no folder: archiver's own files cannot be read.", hint=_REINSTALL
        )
    files = {f"{_MODULE}/{name}": data for name, data in _package_files(folder)}
    version = distribution.version
    described = f"{DISTRIBUTION.replace('-', '_')}-{version}.dist-info"
    installed = {f"{described}/{name}": data for name, data in _described(distribution)}
    if f"{described}/METADATA" not in installed or f"{described}/WHEEL" not in installed:
        raise ArchiverError(f"{described} is not complete.", hint=_REINSTALL)
    _require_as_installed(distribution, folder, files)
    files |= installed
    rows = [(name, _record_digest(data), len(data)) for name, data in sorted(files.items())]
    record = io.StringIO()
    csv.writer(record, lineterminator="\n").writerows([*rows, (f"{described}/RECORD", "", "")])
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as wheel:  # stored: zlib's bytes change with its version
        for name, data in [
            *sorted(files.items()),
            (f"{described}/RECORD", record.getvalue().encode()),
        ]:
            entry = zipfile.ZipInfo(name, _TIME)
            entry.create_system = 3
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            wheel.writestr(entry, data)
    return f"{DISTRIBUTION.replace('-', '_')}-{version}-py3-none-any.whl", packed.getvalue()


def _package_files(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the files of the package; a source tree has links to pages that lie beside it."""
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if name != "__pycache__" and name[0] != ".")
        for name in sorted(names):
            if name.endswith((".pyc", "~")) or name.startswith("."):
                continue
            path = Path(place, name)
            if path.stat().st_size > _FILE_MAX:
                raise ArchiverError(
                    f"{path} is too large to be a file of archiver.", hint=_REINSTALL
                )
            yield path.relative_to(folder).as_posix(), path.read_bytes()


def _described(distribution: metadata.Distribution) -> Iterator[tuple[str, bytes]]:
    """Yield what a wheel says of itself, and its licence."""
    for file in distribution.files or ():
        folder, _, name = file.as_posix().partition("/")
        if folder.endswith(".dist-info") and name and name not in _LEFT_OUT:
            yield name, file.locate().read_bytes()  # type: ignore[attr-defined] # a path, here


def _require_as_installed(
    distribution: metadata.Distribution, folder: Path, files: dict[str, bytes]
) -> None:
    """Raise DamageError if the package was installed from a wheel, and is not what that brought."""
    recorded = {
        file.as_posix(): file.hash
        for file in distribution.files or ()
        if file.parts[0] == _MODULE and file.hash is not None and not file.name.endswith(".pyc")
    }
    if not recorded:
        _require_same_needs(distribution, folder.parent / "pyproject.toml")
        return
    for name in sorted({*files, *recorded}):
        wanted = recorded.get(name)
        if (
            name not in files
            or wanted is None
            or _record_digest(files[name]) != f"sha256={wanted.value}"
        ):
            raise DamageError(
                f"{folder.parent / name} is not as it was installed, so that it is not carried.",
                hint=_REINSTALL,
            )


def _require_same_needs(distribution: metadata.Distribution, project: Path) -> None:
    """Raise ArchiverError if a source tree, installed editable, now needs something else than then."""
    try:
        declared = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["dependencies"]
    except (OSError, KeyError, ValueError):
        return
    noted = [Requirement(text) for text in distribution.requires or ()]
    then = {str(each) for each in noted if each.marker is None}
    now = {str(Requirement(text)) for text in declared if Requirement(text).marker is None}
    if then != now:
        raise ArchiverError(
            f"{project} names other dependencies than when archiver was installed: "
            f"{', '.join(sorted(then ^ now))}.",
            hint=f"Install it once more: pip install --editable {project.parent}",
        )


def _record_digest(data: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
    return f"sha256={digest}"
