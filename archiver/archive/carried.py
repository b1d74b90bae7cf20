"""The files that explain an archive to whoever finds it: carried in the package, copied into each one."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, Final

from archiver.archive.layout import PLACE
from archiver.archive.place_file import parse_place
from archiver.errors import DamageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOST_AND_FOUND: Final = "lost+found"
"""What a disk of ext4 has from the start at its top: no content of anybody's."""
NAMES = ("README.txt", "FORMAT.md", "decode.py")


def files() -> Iterator[tuple[str, bytes]]:
    """Name and content of each carried file."""
    folder = resources.files("archiver") / "carried"
    for name in NAMES:
        yield name, (folder / name).read_bytes()


def all_below(root: Path) -> bool:
    """Whether ``root`` is a folder that holds some carried files, as they are here, and nothing more.

    What else an interrupted writer left does not count: a place's identity, unfinished small files.
    """
    if root.is_symlink() or not root.is_dir():
        return root.is_dir() and not any(root.iterdir())
    known = dict(files())
    return all(
        _expected(path, path.relative_to(root).as_posix(), known) for path in root.rglob("*")
    )


def _expected(path: Path, name: str, known: dict[str, bytes]) -> bool:
    if path.is_symlink():
        return False
    if name.startswith(f"{LOST_AND_FOUND}/"):
        return True
    if path.is_dir():
        return name in {"tmp", LOST_AND_FOUND}
    if name.startswith("tmp/put-"):
        return True
    if name == PLACE:
        return _is_place(path)
    data = known.get(name)
    return data is not None and path.stat().st_size == len(data) and path.read_bytes() == data


def _is_place(path: Path) -> bool:
    try:
        return bool(parse_place(path.read_bytes()))
    except DamageError:
        return False
