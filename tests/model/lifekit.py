"""An archive's folder and what must come out of it, and commands that are cut short on purpose."""

from __future__ import annotations

import json
import os
import random
import traceback
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from typing import TYPE_CHECKING, NamedTuple

from archiver.cli.main import invoke
from archiver.errors import NoSpaceError
from archiver.storage.local import LocalStore
from archiver.storage.staging import LocalStaged

if TYPE_CHECKING:
    from pathlib import Path

Files = dict[str, bytes]

# Few contents, so that snapshots share objects and packs.
CONTENTS = {
    "empty": b"",
    "brackets": b"{}\n",
    "counting": bytes(range(256)) * 40,
    "text": b"text " * 700,
    "noise": random.Random(1).randbytes(9000),
    "zeros": b"\x00" * 5000,
}
STORED = ("packs", "manifests", "snapshots", "journal")
"""Folders of files that are named by their digest."""
DELETABLE = ("packs", "manifests", "snapshots", "trash")
KILLED = 137


class Result(NamedTuple):
    code: int
    rows: list[dict]
    said: str

    def kinds(self, kind: str) -> list[dict]:
        return [row for row in self.rows if row["kind"] == kind]


def contents_of(files: dict[str, str]) -> Files:
    return {path: CONTENTS[what] for path, what in files.items()}


def files_below(folder: Path) -> Files:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def write_below(folder: Path, files: Files) -> Path:
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder


def call(*words: object) -> Result:
    """Run a command in this process; it must never end in a traceback."""
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = invoke(["--json", "-q", *map(str, words)])
    said = out.getvalue() + err.getvalue()
    assert "did not expect" not in said, (words, said)
    return Result(code, [json.loads(line) for line in out.getvalue().splitlines()], said)


class Kept:
    """An archive on disk, and what must come out of it: title -> files.

    ``forgotten`` are those whose seals lie in the trash, ``doomed`` all that the journal may call
    forgotten. ``heads`` were printed once.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.live: dict[str, Files] = {}
        self.forgotten: dict[str, Files] = {}
        self.doomed: set[str] = set()
        self.heads: set[str] = set()
        self.sure = True

    @property
    def there(self) -> bool:
        return self.root.is_dir()

    def titles(self) -> set[str]:
        """What the archive itself lists."""
        rows = call("list", "-C", self.root).kinds("snapshot")
        return {f"{row['repository']}@{row['revision']}" for row in rows}

    def names(self, folders: tuple[str, ...]) -> dict[str, Path]:
        """Stored name -> path, in the order in which they came."""
        found = (path for part in folders for path in (self.root / part).rglob("*"))
        files = sorted((path for path in found if path.is_file()), key=_age)
        return {path.relative_to(self.root).as_posix(): path for path in files}

    def needed(self) -> dict[str, Path]:
        """Of the files that are named by their digest those that seals need, and the journal."""
        seals = [
            json.loads(path.read_bytes())
            for name, path in self.names(("snapshots",)).items()
            if name.endswith(".json")
        ]
        wanted = {pack for seal in seals for pack, _ in seal["packs"]}
        wanted |= {seal["manifest"]["blake3"] for seal in seals}
        return {
            name: path
            for name, path in self.names(STORED).items()
            if name.startswith(("snapshots/", "journal/"))
            or wanted.intersection(path.name.split("."))
        }

    def sidecar(self, path: Path) -> Path:
        (digest,) = [one for one in path.name.split(".") if len(one) == 64]
        return self.root / "parity" / digest[:2] / f"{digest}.par"


def _age(path: Path) -> tuple[int, str]:
    return path.stat().st_mtime_ns, path.suffix


def spoil(path: Path, how: str) -> None:
    """Damage a stored file, which is read-only."""
    body = bytearray(path.read_bytes())
    path.chmod(0o644)
    if how == "missing":
        path.unlink()
        return
    body[len(body) // 2] ^= 1
    path.write_bytes(body[: len(body) * 2 // 3] if how == "cut" else body)
    path.chmod(0o444)


class Trouble(NamedTuple):
    """What befalls a command at its ``at``-th change of an archive: it is killed, or the disk is full."""

    how: str
    at: int


def befall(trouble: Trouble, folder: Path, *words: object) -> int:
    """Run a command in a process of its own that gets into trouble; its exit code."""
    child = os.fork()
    if not child:
        code = 1
        try:
            _beset(trouble)
            done = call(*words)
            code = done.code
            (folder / "said").write_text(done.said)
        except BaseException:  # noqa: BLE001 - a forked process must never go on as the test
            (folder / "said").write_text(traceback.format_exc())
            code = 99
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code != 99, (words, trouble, (folder / "said").read_text())
    return code


def _beset(trouble: Trouble) -> None:
    count = 0

    def before(change):
        def changed(*arguments, **options):
            nonlocal count
            count += 1
            if count >= trouble.at and trouble.how == "killed":
                os._exit(KILLED)
            if count >= trouble.at:
                raise NoSpaceError("The disk is full, says the test.")
            return change(*arguments, **options)

        return changed

    for kind, name in ((LocalStore, "link"), (LocalStore, "remove"), (LocalStaged, "publish")):
        setattr(kind, name, before(getattr(kind, name)))
    begin = before(LocalStaged.begin)
    LocalStaged.begin = begin  # type: ignore[method-assign]  # in a process that ends at once


CALLS: Counter[str] = Counter()
"""How often each rule was followed; shown after a long run."""
