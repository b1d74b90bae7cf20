"""The files that explain an archive to whoever finds it: carried in the package, copied into each one."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMES = ("README.txt", "FORMAT.md", "decode.py")


def files() -> Iterator[tuple[str, bytes]]:
    """Name and content of each carried file."""
    folder = resources.files("archiver") / "carried"
    for name in NAMES:
        yield name, (folder / name).read_bytes()
