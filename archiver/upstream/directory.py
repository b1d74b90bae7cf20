"""Directories that are not ours: their one walker, what in them is no content, and their files' bytes.

Nothing is opened while a directory is walked. The one rule for links: a link is followed if it stays
within the directory, or leads to where the caller says that it may (a hub client's cache keeps its
files beside its snapshots, :mod:`archiver.upstream.hub_cache`); a link to a directory is never walked.
A file is opened without following a link, since its path is resolved before.

Programs leave files of their own in directories. Where nothing lists what a directory should hold,
these are left out and named (:func:`foreign_part`); a file that its downloader's control file says is
half is known by :func:`unfinished_files`.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from archiver.archive.foreign import is_litter
from archiver.errors import MismatchError, UpstreamGoneError, UsageError
from archiver.text import plural, printable
from archiver.upstream.remote_file import LeftOut

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator
    from pathlib import Path

    from archiver.upstream.remote_file import LeftOutKind, RemoteFile

_SHOWN: Final = 20
_UNFINISHED: Final = re.compile(
    r".+\.(aria2|aria2__temp|incomplete|part|partial|crdownload|opdownload)\Z"
)
_CONTROLS: Final = (".aria2",)
"""Endings of files that lie beside a file of full length while it is not whole."""
_PLACEHOLDERS: Final = (".part", ".crdownload", ".incomplete", ".partial", ".opdownload")
"""Endings of the real file while an empty one holds its name."""
_TOOL_DIRECTORIES: Final[dict[str, LeftOutKind]] = {"._____temp": "unfinished", ".hfd": "tool"}
_TOOL_FILES: Final = frozenset({".msc", ".mv", ".mdl"})
_OPEN: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
"""Flags for a file that somebody may have replaced: no link is followed, no pipe is waited for."""


def foreign_part(path: str) -> LeftOut | None:
    """Return the part of ``path`` that a program left there, or None if the path is content.

    Only names are looked at. ``.git/`` counts at the top of the directory only.
    """
    parts = path.split("/")
    for depth, name in enumerate(parts[:-1], 1):
        kind = _directory_kind(name, parts[depth], top=depth == 1)
        if kind == "tool" and _UNFINISHED.match(parts[-1]):
            return LeftOut(path, "unfinished")
        if kind is not None:
            end = depth + 1 if name == ".cache" else depth
            return LeftOut("/".join(parts[:end]) + "/", kind)
    kind = _file_kind(parts[-1])
    return LeftOut(path, kind) if kind is not None else None


def _directory_kind(name: str, following: str, *, top: bool) -> LeftOutKind | None:
    if name == ".git":
        return "tool" if top else None
    if name == ".cache":
        return "tool" if following == "huggingface" else None
    if name in _TOOL_DIRECTORIES:
        return _TOOL_DIRECTORIES[name]
    return "system" if is_litter(name + "/") else None


def _file_kind(name: str) -> LeftOutKind | None:
    if _UNFINISHED.match(name):
        return "unfinished"
    if name in _TOOL_FILES:
        return "tool"
    return "system" if is_litter(name) else None


def unfinished_files(files: Iterable[str], size: Callable[[str], int]) -> dict[str, str]:
    """Return the files that are plainly half, each with the control file that says so.

    Args:
        files: The paths of all files of the directory, the foreign ones too.
        size: The bytes of one of them.
    """
    paths = set(files)
    controls = {}
    for path in sorted(paths):
        for ending in _CONTROLS:
            if path + ending in paths:
                controls[path] = path + ending
        for ending in _PLACEHOLDERS:
            if path + ending in paths and not size(path):
                controls[path] = path + ending
    return controls


@dataclass
class DirectoryScan:
    """What lies in a directory, by path below it, with ``/`` between the parts.

    Attributes:
        files: Path -> the plain file to read; for a link, where it leads.
        escaping: Path of a link -> where it leads, which is outside.
        odd: Path -> why it is no file, as the rest of a sentence that begins with "it".
        unreadable: Directory -> why it could not be listed.
        left_out: What was taken out of the four above because it is no content.
    """

    files: dict[str, str] = field(default_factory=dict)
    escaping: dict[str, str] = field(default_factory=dict)
    odd: dict[str, str] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)

    def content(self, listed: Collection[str] | None = None) -> DirectoryScan:
        """Return the scan without what is no content, which it names in ``left_out``.

        Args:
            listed: What upstream lists, where a record tells: that is content whatever its name, and
                all else is left out. None where nothing tells; then names alone decide.
        """
        content = DirectoryScan()
        left_out: dict[LeftOut, None] = dict.fromkeys(self.left_out)
        for name in ("files", "escaping", "odd", "unreadable"):
            target = getattr(content, name)
            for path, value in getattr(self, name).items():
                part = _no_content(path, listed, directory=name == "unreadable")
                if part is None:
                    target[path] = value
                else:
                    left_out[part] = None
        content.left_out = sorted(left_out)
        return content

    def problems(self) -> Iterator[str]:
        """Yield what cannot be read as a file of the directory, each with the reason."""
        reasons = {
            path: f"a link that leads out of it, to {target}"
            for path, target in self.escaping.items()
        }
        reasons |= {path: f"it {why}" for path, why in self.odd.items()}
        reasons |= {
            path or ".": f"it cannot be listed: {why}" for path, why in self.unreadable.items()
        }
        for path in sorted(reasons):
            yield f"{printable(path)} ({printable(reasons[path], 500)})"


def _no_content(path: str, listed: Collection[str] | None, *, directory: bool) -> LeftOut | None:
    if listed is not None and path in listed:
        return None
    part = foreign_part(path + "/x" if directory else path)
    if part is None and listed is not None and not directory:
        return LeftOut(path, "unlisted")
    return part


def scan_directory(
    directory: str | os.PathLike[str], may_lead_to: Callable[[str], bool] | None = None
) -> DirectoryScan:
    """Return every file and link below ``directory``; directories themselves are not listed.

    Args:
        directory: Where; links in its own path are followed.
        may_lead_to: Whether a link may lead to a place outside; by default none may.
    """
    scan, root = DirectoryScan(), os.path.realpath(directory)
    waiting = [""]
    while waiting:
        below = waiting.pop()
        try:
            with os.scandir(os.path.join(root, below)) as entries:  # noqa: PTH118 - names may not be text
                for entry in entries:
                    path = f"{below}/{entry.name}" if below else entry.name
                    if entry.is_symlink():
                        _follow(scan, path, entry.path, root, may_lead_to)
                    elif entry.is_dir(follow_symlinks=False):
                        waiting.append(path)
                    elif entry.is_file(follow_symlinks=False):
                        scan.files[path] = entry.path
                    else:
                        scan.odd[path] = "is not a plain file"
        except OSError as error:
            scan.unreadable[below] = error.strerror or str(error)
    return scan


def _follow(
    scan: DirectoryScan,
    path: str,
    link: str,
    root: str,
    may_lead_to: Callable[[str], bool] | None,
) -> None:
    target = os.path.realpath(link)
    inside = target == root or target.startswith(root.rstrip("/") + "/")
    # Before the target is looked at: what lies outside is nobody's business.
    if not inside and not (may_lead_to and may_lead_to(target)):
        scan.escaping[path] = target
    elif os.path.isfile(target):  # noqa: PTH113 - as text
        scan.files[path] = target
    elif os.path.isdir(target):  # noqa: PTH112 - as text
        scan.odd[path] = "is a link to a folder"
    else:
        there = os.path.lexists(target) and not os.path.islink(target)  # noqa: PTH114 - as text
        scan.odd[path] = "is a link to no plain file" if there else "is a link that leads nowhere"


def refusal(directory: str, problems: list[str]) -> UsageError:
    """Return the error for a directory that holds what is no file, with all ``problems``."""
    more = len(problems) - _SHOWN
    listed = "; ".join(problems[:_SHOWN]) + (f"; and {more:,} more" if more > 0 else "")
    count = plural(len(problems), "entry", "entries")
    return UsageError(
        f"{printable(directory)} holds {count} that cannot be read as files of it: {listed}.",
        hint="Remove these, or copy the files that you mean into a folder of their own.",
    )


def find_file(directory: Path, path: str, may_lead_to: Callable[[str], bool] | None = None) -> str:
    """Return where the listed file ``path`` lies now; UpstreamGoneError if it is no file now."""
    scan, root = DirectoryScan(), os.path.realpath(directory)
    where = os.path.join(root, path)  # noqa: PTH118 - as text
    _follow(scan, path, where, root, may_lead_to)
    if path in scan.files:
        return scan.files[path]
    shown = printable(path)
    if path in scan.escaping:
        reason = f"{shown} can no longer be read: it is a link that leads out of the folder"
    elif os.path.lexists(where) and not os.path.islink(where):  # noqa: PTH114 - as text
        reason = f"{shown} can no longer be read: it is not a plain file"
    elif os.path.islink(where):  # noqa: PTH114 - as text
        reason = f"{shown} {scan.odd[path]}"
    else:
        reason = f"{shown} is not in {printable(str(directory))}"
    raise UpstreamGoneError(
        f"{reason}.",
        hint="A cache may hold a part of a revision only: download the rest of it, then import again.",
    )


def read_beginning(where: str, size: int) -> bytes:
    """Return the first ``size`` bytes of a file, or nothing if it cannot be read."""
    try:
        with open(where, "rb", opener=lambda path, _: os.open(path, _OPEN)) as file:
            return file.read(size) or b""
    except OSError:
        return b""


class FileReader:
    """A :class:`~archiver.upstream.protocol.ByteStream` over one file on a disk.

    Args:
        where: The file, as a scan or :func:`find_file` gives it.
        file: What was listed.
        offset: The byte to begin at.
        recorded: Whether the size was listed by somebody else, such as a cache's record, and not by
            the directory itself. Then another size is a MismatchError.
    """

    def __init__(self, where: str, file: RemoteFile, offset: int, *, recorded: bool) -> None:
        self._file = file
        self._position = offset
        try:
            self._raw = open(where, "rb", buffering=0, opener=lambda path, _: os.open(path, _OPEN))  # noqa: SIM115
        except OSError as error:
            raise UpstreamGoneError(
                f"{printable(file.path)} cannot be read: {error.strerror}."
            ) from error
        self._before = os.fstat(self._raw.fileno())
        size = self._before.st_size
        if recorded and size != file.size:
            self._raw.close()
            raise MismatchError(
                f"{printable(file.path)} is too {'short' if size < file.size else 'long'}: "
                f"{size:,} of {file.size:,} bytes.",
                hint="Its download did not finish, or the file was damaged: delete it and download it "
                "again.",
            )
        self._raw.seek(offset)
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._raw.fileno(), offset, 0, os.POSIX_FADV_SEQUENTIAL)

    def readinto(self, buffer: memoryview) -> int:
        """Put the next bytes into ``buffer`` and return how many, 0 at the end of the file.

        Raise UpstreamGoneError when the file has not the listed size, or changed during the read.
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
