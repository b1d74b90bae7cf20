"""Wheels to bring: hollow ones that declare what real ones do, and real ones as they are installed here."""

from __future__ import annotations

import base64
import hashlib
import platform
import sys
import zipfile
from importlib import metadata
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

MINOR = sys.version_info[1]
MACHINE = platform.machine()
HERE = f"linux-{MACHINE},py3{MINOR}"
OWN = "weights-archiver"


def wheel(
    folder: Path,
    name: str,
    version: str = "1.0",
    *,
    requires: Iterable[str] = (),
    tag: str = "py3-none-any",
    licence: str = "MIT",
) -> Path:
    """A wheel with no code in it."""
    folder.mkdir(exist_ok=True)
    stem = f"{name.replace('-', '_')}-{version}"
    lines = ["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}"]
    lines += [f"License-Expression: {licence}", *(f"Requires-Dist: {each}" for each in requires)]
    tags = "".join(
        f"Tag: {'-'.join(tag.split('-')[:2])}-{each}\n" for each in tag.split("-")[2].split(".")
    )
    about = f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\n{tags}"
    files = {"METADATA": "\n".join(lines) + "\n", "WHEEL": about}
    path = folder / f"{stem}-{tag}.whl"
    pack(path, {f"{stem}.dist-info/{key}": text.encode() for key, text in files.items()}, stem)
    return path


def pack(path: Path, files: dict[str, bytes], stem: str) -> None:
    rows = []
    for name, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
        rows.append(f"{name},sha256={digest},{len(data)}\n")
    record = f"{stem}.dist-info/RECORD"
    with zipfile.ZipFile(path, "w") as packed:
        for name, data in {**files, record: "".join([*rows, f"{record},,\n"]).encode()}.items():
            packed.writestr(zipfile.ZipInfo(name), data)


def needs(distribution: str = OWN) -> Iterator[Requirement]:
    """What a distribution that is installed here needs, without its optional parts."""
    for text in metadata.requires(distribution) or ():
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield requirement


def hollow_wheels(folder: Path) -> Path:
    """A hollow wheel for each thing that archiver needs, in the version that is installed here."""
    for requirement in needs():
        wheel(folder, canonicalize_name(requirement.name), metadata.version(requirement.name))
    return folder


def real_wheels(folder: Path) -> Path:
    """All that archiver needs, packed from what is installed here."""
    folder.mkdir(exist_ok=True)
    waiting, done = [each.name for each in needs()], set()
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in done:
            continue
        done.add(name)
        waiting += [each.name for each in needs(name)]
        repack(metadata.distribution(name), folder)
    return folder


def repack(distribution: metadata.Distribution, folder: Path) -> None:
    files, tags = {}, []
    for file in distribution.files or ():
        if file.suffix == ".pyc" or ".." in file.parts or file.name in {"RECORD", "INSTALLER"}:
            continue
        files[file.as_posix()] = file.locate().read_bytes()
        if file.name == "WHEEL":
            lines = files[file.as_posix()].decode().splitlines()
            tags = [line.removeprefix("Tag: ") for line in lines if line.startswith("Tag: ")]
            stem = file.parts[0].removesuffix(".dist-info")
    interpreter, abi, _ = tags[0].split("-")
    interpreter = ".".join(dict.fromkeys(tag.split("-")[0] for tag in tags))
    # What runs here runs here, with whatever C library it was made for.
    platforms = "any" if tags[0].endswith("-any") else f"linux_{MACHINE}"
    pack(folder / f"{stem}-{interpreter}-{abi}-{platforms}.whl", files, stem)
