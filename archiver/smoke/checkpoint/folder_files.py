"""Which files of a folder make up a checkpoint. Nothing is opened."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from archiver.errors import HostileNameError, UnfinishedModelError, UsageError
from archiver.names import as_repo_path
from archiver.text import printable
from archiver.upstream.directory import refusal, unfinished_files
from archiver.upstream.hub_cache import cached_repository, scan_snapshot

if TYPE_CHECKING:
    from pathlib import Path


class FoundFile(NamedTuple):
    """Where a file really lies, its size in bytes, and by what else it is known again."""

    where: str
    size: int
    inode: int
    mtime_ns: int

    def is_still(self, status: os.stat_result) -> bool:
        """Whether an open file is the one that was listed, and was not written to since."""
        known = (status.st_size, status.st_ino, status.st_mtime_ns)
        return stat.S_ISREG(status.st_mode) and known == (self.size, self.inode, self.mtime_ns)


def find_files(folder: Path) -> dict[str, FoundFile]:
    """The files of a plain folder, of a hub cache's repository or of a snapshot of one, by path.

    Raises:
        UsageError: There is no such folder, it is empty, or it holds what is no file, a name that
            cannot be shown, or a link that leads out of it.
        UpstreamGoneError: It is a hub cache's repository that holds no revision.
    """
    shown = printable(str(folder))
    if not os.path.isdir(folder):  # noqa: PTH112 - never raises, whatever the name
        raise UsageError(
            f"{shown} is not a folder.",
            hint="Name a folder with a model's files, or a repository that the archive holds.",
        )
    whole = scan_snapshot(_snapshot_of(folder))
    scan = whole.content()
    half = unfinished_files(whole.files, lambda path: os.stat(whole.files[path]).st_size)  # noqa: PTH116 - as above
    found, problems = {}, list(scan.problems())
    for path in sorted(scan.files):
        try:
            as_repo_path(path)
            found[path] = _found(scan.files[path])
        except HostileNameError as error:
            problems.append(error.message.rstrip("."))
        except OSError as error:
            problems.append(f"{printable(path)} ({error.strerror})")
    unfinished = [
        f"{printable(path)} (its download did not end: {printable(half[path])} lies beside it)"
        for path in half
        if path in found
    ]
    if problems:
        raise refusal(str(folder), [*problems, *unfinished])
    if unfinished:
        raise UnfinishedModelError(
            f"{shown} holds a model of which a part is missing: {'; '.join(unfinished[:8])}.",
            hint="Let its download end, or remove what it left.",
        )
    if not found:
        raise UsageError(f"{shown} is empty.", hint="Name the folder that holds the model's files.")
    return found


def _found(where: str) -> FoundFile:
    status = os.stat(where)  # noqa: PTH116 - names may not be text
    return FoundFile(where, status.st_size, status.st_ino, status.st_mtime_ns)


def _snapshot_of(folder: Path) -> Path:
    """The folder itself, or the snapshot that it stands for as a hub cache's repository."""
    cached = cached_repository(folder.resolve())
    return cached.snapshot(cached.commit(None)) if cached and not cached.only else folder
