"""Installs archiver from this medium, without a network.

    python3 -I tools/install.py [DIR]      DIR is a new folder; ~/archiver if none is named
    python3 -I tools/install.py --check    only check the files

It needs Python 3.11 or newer, and ensurepip, pip or uv beside it. Every file of this folder is compared
with `bundle.json` before any of them is used, and pip compares them once more. The medium is only read,
and nothing is written but DIR. Remove DIR, and it is gone.

Exit codes: 0 it is installed; 1 this machine failed (disk full); 2 usage, or nothing here is for this
machine; 10 this is no volume that brings the tool; 20 a file is not what `bundle.json` says: nothing of
it was run; 130 interrupted.
"""

from __future__ import annotations

import sys

if not sys.flags.isolated and sys.path:
    del sys.path[0]  # this folder: what lies here was not checked yet

import hashlib
import io
import json
import os
import platform
import re
import shlex
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
GLIBC = (2, 28)  # the oldest that the wheels are chosen for
MINOR_LEAST = 11  # of the Python 3 that archiver runs on
DOCUMENT_MAX = 32 << 20
NAME = re.compile(r"tools/[a-z0-9][a-z0-9_.+!-]{0,114}")
LIST = re.compile(r"tools/(linux-([a-z0-9_]+)-py3([0-9]+))\.txt")
HEX64 = re.compile("[0-9a-f]{64}")
UNFIT = re.compile(r'[\x00-\x1f\x7f:"$`\\]')  # what no folder of programs may have in its name
LITTER = ("thumbs.db", "desktop.ini", ".ds_store", "._")  # what systems leave on a medium
MARK = "archiver-install-unfinished"
RESTARTED = "--this-python"
SHOWN = 20


class Listed(NamedTuple):
    """A file of the tool as `bundle.json` lists it; `package` is empty of what is no wheel."""

    size: int
    sha256: str
    package: str
    version: str


class Stop(Exception):
    """Ends the program with an exit code, a sentence, and what to do next."""

    def __init__(self, code: int, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint


# ---- what is here


def read_bundle(volume: Path) -> tuple[dict[str, Any], str]:
    """Return what `bundle.json` says of the tool, and the document's SHA-256."""
    path = volume / "bundle.json"
    try:
        plain = stat.S_ISREG(path.lstat().st_mode)  # who opens a pipe waits for its writer
        with path.open("rb") if plain else io.BytesIO() as file:
            data = file.read(DOCUMENT_MAX + 1)
        bundle = json.loads(data) if len(data) <= DOCUMENT_MAX else None
    except OSError as error:
        raise Stop(
            10,
            f"{path} cannot be read: {error.strerror}.",
            "Run install.sh where it lies, in the folder tools of the first volume.",
        ) from None
    except (ValueError, RecursionError):
        bundle = None
    if not isinstance(bundle, dict):
        raise Stop(20, f"{path} is damaged.", "Run nothing of this medium. Have it written anew.")
    tools = bundle.get("tools")
    if not isinstance(tools, dict):
        raise Stop(
            10,
            "This bundle does not bring the tool.",
            "Restore with decode.py, or have the bundle made with --with-tool.",
        )
    return tools, hashlib.sha256(data).hexdigest()


def listed_files(tools: dict[str, Any]) -> dict[str, Listed]:
    """Return the files by name; Stop for one that cannot be."""
    files: dict[str, Listed] = {}
    rows = tools.get("files")
    for row in rows if isinstance(rows, list) else []:
        if not is_row(row) or row[0] in files:
            raise Stop(20, "bundle.json is damaged: it lists a file that cannot be.")
        name, size, _, sha256, package, version = row[:6]
        files[name] = Listed(size, sha256, package, version)
    return files


def is_row(row: Any) -> bool:
    """Return whether it can be a file's: name, size, BLAKE3, SHA-256, package, version."""
    if not isinstance(row, list) or [type(each) for each in row[:6]] != [str, int, *[str] * 4]:
        return False
    return bool(NAME.fullmatch(row[0]) and HEX64.fullmatch(row[3]))


def check_files(volume: Path, files: dict[str, Listed]) -> None:
    """Raise Stop unless every file of the tool is what the list says, and no other is there."""
    wrong = [f"{name} {fault}" for name in sorted(files) for fault in faults(volume, name, files)]
    wrong += [
        f"{path.name!a} is in no list"
        for path in sorted(HERE.iterdir())
        if f"tools/{path.name}" not in files and not path.name.lower().startswith(LITTER)
    ]
    if wrong:
        more = f"; and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        raise Stop(
            20,
            f"REFUSED, nothing was installed: {'; '.join(wrong[:SHOWN])}{more}.",
            "Run nothing of this folder. Have volume 1 written anew, and find out who had the medium. Its "
            "models can be restored without: python3 -I decode.py restore REPOSITORY FOLDER",
        )


def faults(volume: Path, name: str, files: dict[str, Listed]) -> list[str]:
    """Return what is wrong with a file, as the end of a sentence."""
    path, listed = volume / name, files[name]
    try:
        about = path.lstat()
        if not stat.S_ISREG(about.st_mode):
            return ["is no plain file"]
        if about.st_size != listed.size:
            return [f"has {about.st_size:,} bytes, and should have {listed.size:,}"]
        if digest_of(path) != listed.sha256:
            return ["is damaged or was changed: it has another SHA-256"]
    except FileNotFoundError:
        return ["is missing"]
    except OSError as error:
        return [f"cannot be read: {error.strerror}"]
    return []


def digest_of(path: Path) -> str:
    """Return a file's SHA-256."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for piece in iter(lambda: file.read(1 << 20), b""):
            digest.update(piece)
    return digest.hexdigest()


# ---- which Python


def lists_for(files: dict[str, Listed]) -> dict[int, str]:
    """Return what can be installed on this machine: minor version of Python 3 -> name of the list."""
    machine = platform.machine().lower()
    matches = [match for match in map(LIST.fullmatch, files) if match]
    fitting = {int(match[3]): match[0] for match in matches if match[2] == machine}
    if sys.platform != "linux" or not fitting:
        raise Stop(
            2,
            f"Nothing here is for this machine ({sys.platform}, {machine}).",
            f"The tool was brought for {', '.join(sorted(match[1] for match in matches)) or 'none'}.",
        )
    library, version = platform.libc_ver()
    numbers = tuple(int(part) for part in re.findall("[0-9]+", version)[:2])
    if library != "glibc" or numbers < GLIBC:
        raise Stop(
            2,
            f"This system's C library is {f'{library} {version}'.strip() or 'not known'}; the tool needs "
            f"glibc {GLIBC[0]}.{GLIBC[1]} or newer.",
            "Restore with decode.py, which needs Python alone.",
        )
    return fitting


def list_for_this_python(lists: dict[int, str], words: list[str]) -> str:
    """Return the list for this Python; else start again with one that there is a list for, or Stop."""
    minor = sys.version_info[1]
    if minor in lists and platform.python_implementation() == "CPython":
        return lists[minor]
    if RESTARTED not in words:
        for other in sorted(lists, reverse=True):
            program = shutil.which(f"python3.{other}")
            if program and is_python(program, other):
                script = str(HERE / "install.py")
                sys.stdout.flush()
                os.execv(program, [program, "-I", "-B", script, RESTARTED, *words])
    brought = " or ".join(f"3.{each}" for each in sorted(lists))
    other_bundle = ""
    if minor >= MINOR_LEAST:
        target = f"linux-{platform.machine()},py3{minor}"
        other_bundle = f", or have the bundle made for this one: --with-tool {target}"
    raise Stop(
        2,
        f"This is Python {platform.python_version()}; the tool was brought for Python {brought}.",
        f"Install that one from this system's own packages{other_bundle}.",
    )


def is_python(program: str, minor: int) -> bool:
    """Return whether a program is this version of Python 3."""
    code = f"import sys; sys.exit(sys.version_info[:2] != (3, {minor}))"
    return runs([program, "-I", "-c", code])


# ---- installing


def runs(command: list[str]) -> bool:
    """Return whether a command ends well."""
    done = subprocess.run(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False
    )
    return done.returncode == 0


def run(command: list[str], folder: Path, scratch: str, what: str) -> str:
    """Run a command and return what it said; no setting of pip's, uv's or Python's reaches it."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith(("PIP_", "UV_", "PYTHON", "VIRTUAL_ENV"))
    }
    settings = {"PIP_CONFIG_FILE": os.devnull, "UV_NO_CONFIG": "1", "HOME": scratch}
    done = subprocess.run(
        command,
        env={**kept, **settings, "XDG_CONFIG_HOME": scratch},
        cwd=scratch,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    said = done.stdout.decode("utf-8", "replace").strip()
    if done.returncode:
        lines = "\n  ".join(said.splitlines()[-8:])
        free = shutil.disk_usage(scratch).free, shutil.disk_usage(folder).free
        raise Stop(
            1,
            f"{what} failed:\n  {lines}",
            f"Nothing of it was left behind. {free[1] >> 20:,} MiB are free in {folder}, and "
            f"{free[0] >> 20:,} MiB for temporary files: is that enough?",
        )
    return said


def install(requirements: Path, folder: Path, scratch: str) -> None:
    """Make a virtual environment, and put the listed wheels into it, each by its SHA-256."""
    python, here = str(folder / "bin" / "python"), sys.executable
    wheels = ["--no-index", "--find-links", str(HERE), "--require-hashes", "--no-deps"]
    wheels += ["-r", str(requirements)]
    quiet = ["--quiet", "--disable-pip-version-check", "--no-input", "--no-cache-dir"]
    make = [here, "-I", "-m", "venv", str(folder)]
    uv = shutil.which("uv")
    if runs([here, "-I", "-c", "import ensurepip, venv"]):
        command = [python, "-I", "-m", "pip", "install", *quiet, *wheels]
    elif runs([here, "-I", "-c", "import pip, venv"]):
        make.append("--without-pip")
        command = [here, "-I", "-m", "pip", "--python", python, "install", *quiet, *wheels]
    elif uv and runs([here, "-I", "-c", "import venv"]):
        make.append("--without-pip")
        command = [uv, "pip", "install", "--offline", "--no-cache", "--python", python, *wheels]
    else:
        raise Stop(
            2,
            f"This Python ({here}) has neither ensurepip nor pip, and there is no uv.",
            "Install one of them from this system's own packages (Debian and Ubuntu: python3-venv).",
        )
    run(make, folder, scratch, "Making the environment")
    run(command, folder, scratch, "Installing the wheels")


def prepare(folder: Path) -> None:
    """Make the folder; remove what a run that was killed left of it."""
    if (folder / MARK).is_file():
        shutil.rmtree(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        empty = not any(folder.iterdir())
    except (FileExistsError, NotADirectoryError):
        empty = False
    if not empty:
        raise Stop(
            2,
            f"{folder} is there already, and not an empty folder.",
            "Name a new one: sh tools/install.sh FOLDER. To remove an older archiver, remove its folder.",
        )
    (folder / MARK).write_text(
        "This folder is being made. If nothing is at work here, remove it.\n"
    )


def main(words: list[str]) -> int:
    """Check, install, and say what was done and what comes next."""
    arguments = [word for word in words if word != RESTARTED]
    if len(arguments) > 1 or any(word.startswith("-") for word in arguments if word != "--check"):
        print((__doc__ or "").strip())
        return 0 if arguments in (["-h"], ["--help"]) else 2
    volume = HERE.parent
    tools, sha256 = read_bundle(volume)
    files = listed_files(tools)
    check_files(volume, files)
    if RESTARTED not in words:
        print(f"All {len(files)} files of the tool are as bundle.json lists them. Its SHA-256 is")
        print(f"    {sha256}")
        print(
            "It stands in MANIFEST.md too. Compare it with the copy that came on another way, if any."
        )
    if arguments == ["--check"]:
        return 0
    requirements = volume / list_for_this_python(lists_for(files), words)
    folder = chosen_folder(arguments)
    wheels = requirements.read_text(encoding="ascii").count("--hash=")
    version = next(
        (each.version for each in files.values() if each.package == "weights-archiver"), ""
    )
    print(
        f"Installing archiver {version} to {folder}, for Python {platform.python_version()} …",
        flush=True,
    )
    prepare(folder)
    archiver = str(folder / "bin" / "archiver")
    try:
        with tempfile.TemporaryDirectory(prefix="archiver-install-") as scratch:
            install(requirements, folder, scratch)
            run([archiver, "--version"], folder, scratch, "Starting archiver")
            # What is compiled has to load here too.
            parts = "import archiver.operations.bundle.intake, archiver.operations.restore.run"
            python = str(folder / "bin" / "python")
            run([python, "-I", "-c", parts], folder, scratch, "Starting archiver")
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    (folder / MARK).unlink()
    report(archiver, wheels, volume)
    return 0


def chosen_folder(arguments: list[str]) -> Path:
    """Return where to install: what was named, or a folder at home."""
    if arguments:
        folder = Path(arguments[0]).absolute()
    else:
        home = os.environ.get("HOME") or ""
        if not Path(home or "/nowhere").is_dir():
            raise Stop(
                2, "There is no home folder here.", "Name a folder: sh tools/install.sh FOLDER"
            )
        folder = Path(home).absolute() / "archiver"
    # Programs of a virtual environment start by a line of the shell that has its path in double quotes.
    if UNFIT.search(str(folder)):
        raise Stop(
            2,
            f"{str(folder)!a} cannot be where programs start from: its name has a line feed, or one of "
            ': " $ ` and the backslash.',
            "Name a folder without: sh tools/install.sh FOLDER",
        )
    return folder


def report(archiver: str, wheels: int, volume: Path) -> None:
    """Say what was done, and the commands that come next."""
    command = shlex.quote(archiver)
    medium = shlex.quote(str(volume.parent if volume.name.startswith("volume-") else volume))
    print(
        f"Installed: {wheels} wheels, each with the SHA-256 of its list. Nothing else was changed here."
    )
    print()
    print(
        "Next, check this medium, and take its models into an archive, here a new folder weights:"
    )
    print()
    print(f"    {command} bundle verify --part {medium}")
    print(f"    {command} bundle import -C weights --new {medium}")
    print(f"    {command} list -C weights")


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except Stop as stop:
        sys.stderr.write(
            f"install.py: {stop.message}\n{stop.hint}\n"
            if stop.hint
            else f"install.py: {stop.message}\n"
        )
        sys.exit(stop.code)
    except KeyboardInterrupt:
        sys.stderr.write("install.py: Interrupted.\n")
        sys.exit(130)
    except OSError as error:
        sys.stderr.write(
            f"install.py: {ascii(error.filename)[1:-1] if error.filename else 'This machine'}: "
            f"{error.strerror or error}.\nNothing was installed. Name a folder on a disk with room, that "
            "you may write to and start programs from: sh tools/install.sh FOLDER\n"
        )
        sys.exit(1)
