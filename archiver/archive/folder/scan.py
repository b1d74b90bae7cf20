"""What lies in a plain folder, or in a snapshot of a hub client's cache. Nothing is opened.

A link is followed only if it stays within the folder, or leads from a hub cache's
``snapshots/<revision>`` by a relative path to that cache's ``blobs``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class FolderScan:
    """What was found, by path below the folder, with ``/`` between the parts.

    Attributes:
        files: Path -> the plain file to read; for a link, where it leads.
        escaping: Path of a link -> where it leads, which is outside.
        odd: Path -> why it is no file, as the rest of a sentence.
        unreadable: Folder -> why it could not be listed.
    """

    files: dict[str, str] = field(default_factory=dict)
    escaping: dict[str, str] = field(default_factory=dict)
    odd: dict[str, str] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)


def hub_cache_of(folder: Path) -> Path | None:
    """The cache repository (``models--…``) whose snapshot ``folder`` is, or None."""
    where = Path(os.path.realpath(folder))
    return where.parent.parent if where.parent.name == "snapshots" else None


def scan_folder(folder: Path) -> FolderScan:
    """Every file and link below ``folder``; folders themselves are not told."""
    found, root = FolderScan(), os.path.realpath(folder)
    cache = hub_cache_of(folder)
    blobs = str(cache / "blobs") if cache else None
    waiting = [""]
    while waiting:
        below = waiting.pop()
        try:
            with os.scandir(os.path.join(root, below)) as entries:  # noqa: PTH118 - names may not be text
                for entry in entries:
                    path = f"{below}/{entry.name}" if below else entry.name
                    if entry.is_symlink():
                        _link(found, path, entry.path, root, blobs)
                    elif entry.is_dir(follow_symlinks=False):
                        waiting.append(path)
                    elif entry.is_file(follow_symlinks=False):
                        found.files[path] = entry.path
                    else:
                        found.odd[path] = "is not a plain file"
        except OSError as error:
            found.unreadable[below] = error.strerror or str(error)
    return found


def _link(found: FolderScan, path: str, link: str, root: str, blobs: str | None) -> None:
    target = os.path.realpath(link)
    relative = not os.path.isabs(os.readlink(link))  # noqa: PTH115, PTH117 - as text
    in_blobs = blobs is not None and relative and os.path.dirname(target) == blobs  # noqa: PTH120
    if not in_blobs and os.path.commonpath([root, target]) != root:
        found.escaping[path] = target
    elif os.path.isfile(target):  # noqa: PTH113 - as text
        found.files[path] = target
    else:
        there = os.path.lexists(target)
        found.odd[path] = "is a link to no plain file" if there else "is a link that leads nowhere"
