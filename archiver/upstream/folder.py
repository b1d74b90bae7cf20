"""Files of a folder that is not ours: what may be read, and whether it holds still meanwhile."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from archiver.errors import UpstreamGoneError, UsageError
from archiver.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from archiver.upstream.protocol import RemoteFile

_LEFT_OUT = {".git", ".cache/huggingface"}
_SHOWN = 20


def walk(folder: Path, roots: Iterable[Path]) -> dict[str, tuple[Path, int]]:
    """Every file below ``folder``: its path with ``/``, where it really lies, its size in bytes.

    A link to a file is followed if it ends inside one of ``roots``. Raises UsageError that names
    all entries which are neither files nor folders, and links that lead elsewhere or to folders.
    """
    found: dict[str, tuple[Path, int]] = {}
    problems: list[str] = []
    for path, entry in _entries(folder, "", problems):
        try:
            found[path] = _look(folder, path, roots)
        except (_Problem, OSError) as problem:
            link = "a link that " if entry.is_symlink() else ""
            reason = problem.args[0] if isinstance(problem, _Problem) else problem.strerror
            problems.append(f"{printable(path)} ({link}{reason})")
    if problems:
        raise _refused(folder, problems)
    return found


class _Problem(Exception):  # noqa: N818 - a finding, not an error by itself
    pass


def _entries(
    folder: Path, prefix: str, problems: list[str]
) -> Iterator[tuple[str, os.DirEntry[str]]]:
    try:
        listed = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        problems.append(f"{printable(prefix or str(folder))} ({error.strerror})")
        return
    for entry in listed:
        path = prefix + entry.name
        if not entry.is_dir(follow_symlinks=False):
            yield path, entry
        elif path not in _LEFT_OUT:
            yield from _entries(folder / entry.name, path + "/", problems)


def _look(folder: Path, path: str, roots: Iterable[Path]) -> tuple[Path, int]:
    # Not Path.resolve, which on Python 3.11 meets a loop of links with a bare RuntimeError.
    where = Path(os.path.realpath(folder / path, strict=True))
    if not any(where.is_relative_to(root) for root in roots):
        raise _Problem("leads outside the folder")
    status = where.stat()
    if stat.S_ISDIR(status.st_mode):
        raise _Problem("leads to a folder")
    if not stat.S_ISREG(status.st_mode):
        raise _Problem("is not a file")
    return where, status.st_size


def _refused(folder: Path, problems: list[str]) -> UsageError:
    more = len(problems) - _SHOWN
    told = "; ".join(problems[:_SHOWN]) + (f"; and {more:,} more" if more > 0 else "")
    return UsageError(
        f"{printable(str(folder))} holds what cannot be archived ({len(problems):,}): {told}.",
        hint="Remove these, or copy the files that you mean into a folder of their own.",
    )


def real_file(folder: Path, path: str, roots: Iterable[Path]) -> Path:
    """Where the listed file ``path`` lies; UpstreamGoneError if it is gone or is no file now."""
    try:
        return _look(folder, path, roots)[0]
    except FileNotFoundError as error:
        raise UpstreamGoneError(
            f"{printable(path)} is not in {printable(str(folder))}.",
            hint="A cache may hold a part of a revision only; download the rest of it first.",
        ) from error
    except (_Problem, OSError) as error:
        raise UpstreamGoneError(f"{printable(path)} can no longer be read: {error}.") from error


class FileReader:
    """A :class:`~archiver.upstream.protocol.ByteStream` over one file on a disk."""

    def __init__(self, where: Path, file: RemoteFile, offset: int) -> None:
        self._file = file
        self._position = offset
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        try:
            self._raw = open(where, "rb", buffering=0, opener=lambda p, _: os.open(p, flags))  # noqa: SIM115
        except OSError as error:
            raise UpstreamGoneError(
                f"{printable(file.path)} cannot be read: {error.strerror}."
            ) from error
        self._before = os.fstat(self._raw.fileno())
        self._raw.seek(offset)
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._raw.fileno(), offset, 0, os.POSIX_FADV_SEQUENTIAL)

    def readinto(self, buffer: memoryview) -> int:
        """Put the next bytes into ``buffer``; how many, 0 at the end of the file.

        Raises UpstreamGoneError when the file has not the listed size, or changed during the read.
        """
        try:
            count = self._raw.readinto(buffer)
        except OSError as error:
            raise UpstreamGoneError(
                f"{printable(self._file.path)} cannot be read at byte {self._position:,}: "
                f"{error.strerror}."
            ) from error
        self._position += count
        if self._position > self._file.size or (not count and len(buffer) and self._changed()):
            raise UpstreamGoneError(
                f"{printable(self._file.path)} changed while it was read.",
                hint="Run the command again when nothing writes to the folder.",
            )
        return count

    def _changed(self) -> bool:
        after = os.fstat(self._raw.fileno())
        same = after.st_mtime_ns == self._before.st_mtime_ns and after.st_size == self._file.size
        return not same or self._position != self._file.size

    def close(self) -> None:
        """Close the file."""
        self._raw.close()
