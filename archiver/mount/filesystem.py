"""What the kernel asks of a mounted archive, answered from its packs: the operations of FUSE.

Each comes on a thread of libfuse's own, and any number at once. Nothing can be changed: the mount is
read-only, so that the kernel itself refuses whatever writes. No byte is given before its segment was
proven. Where that fails, the reader gets EIO and ``report`` the error; or ESTALE, if the snapshot was taken
out of use meanwhile.
"""

from __future__ import annotations

import errno
import functools
import logging
import os
import stat
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeVar

from blake3 import blake3

from archiver.errors import ArchiverError
from archiver.mount.tree import File, Folder, Link, Node, Text, Tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from archiver.archive.seals import Snapshot

_log = logging.getLogger(__name__)

_BLOCK: Final = 4096
_STAT_BLOCK: Final = 512
_PREFERRED: Final = 1 << 20
"""What a program should read at a time, by ``st_blksize``."""
_XATTR: Final = "user.archiver."
ATTRIBUTES: Final = ("blake3", "sha256", "vouched", "proven")
"""What can be asked of a file, as the extended attribute ``user.archiver.<name>``."""
SEEN_MAX: Final = 10_000
"""Damage of so many files is reported once each; what comes after is not reported again and again."""

Result = TypeVar("Result")


class Readable(Protocol):
    """A file of a snapshot, any part of which can be read."""

    def read(self, start: int, stop: int) -> Iterator[memoryview]:
        """Yield the bytes from ``start`` to ``stop``, proven; raise DamageError if they cannot be."""


class Source(Protocol):
    """Where the bytes of files come from."""

    def open(self, snapshot: Snapshot, path: str) -> Readable:
        """Return a file of a snapshot. Raise ArchiverError if that is not possible."""

    def attribute(self, snapshot: Snapshot, path: str, name: str) -> str:
        """Return what is known of a file, by one of the ``ATTRIBUTES``."""


class ReadFailure(NamedTuple):
    """A read that a program was refused."""

    snapshot: Snapshot
    path: str
    error: ArchiverError


class _Handle(NamedTuple):
    """An open file."""

    node: File
    content: Readable


def _answering(
    operation: Callable[..., Result],
) -> Callable[..., Result]:
    """Turn whatever an operation raises into a number that the kernel knows."""

    @functools.wraps(operation)
    def answered(filesystem: ArchiveFilesystem, path: str, *rest: Any) -> Result:
        try:
            return operation(filesystem, path, *rest)
        except ArchiverError as error:
            _log.info("%s %s: %s", operation.__name__, path, error.message)
            raise OSError(errno.EIO, os.strerror(errno.EIO)) from None
        except FileNotFoundError:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT)) from None
        except NotADirectoryError:
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from None
        except OSError as error:
            # libfuse takes a number only.
            raise OSError(error.errno or errno.EIO, str(error)) from None
        except Exception as error:  # noqa: BLE001 - one question that went wrong must not end the mount
            filesystem.tell_unexpected(path, error)
            raise OSError(errno.EIO, os.strerror(errno.EIO)) from None

    return answered


class ArchiveFilesystem:
    """The operations, by the names that FUSE has for them.

    Args:
        tree: What is shown.
        source: Where bytes come from.
        ready: Called once, by another thread, when the kernel has begun to ask.
        report: Called for a read that fails, once for each file.
        warn: Called with a path at which something went wrong that nobody foresaw.
    """

    use_ns = True
    """Times are whole nanoseconds (of ``mfusepy``)."""

    def __init__(
        self,
        tree: Tree,
        source: Source,
        *,
        ready: Callable[[], None],
        report: Callable[[ReadFailure], None],
        warn: Callable[[str, ArchiverError], None],
    ) -> None:
        self._tree = tree
        self._source = source
        self._ready = ready
        self._report = report
        self._warn = warn
        self._owner = {"st_uid": os.getuid(), "st_gid": os.getgid()}
        self._lock = threading.Lock()
        self._handles: dict[int, _Handle] = {}
        self._next = 1
        self._working_folder = Path.cwd()
        self._reported: set[tuple[str, str]] = set()
        self.was_ready = False
        """Whether it was mounted."""

    def tell_unexpected(self, path: str, error: Exception) -> None:
        """Say of what no code foresaw that it happened, once; whoever asked gets EIO."""
        reason = f"Something that archiver did not expect: {type(error).__name__}: {error}"
        with self._lock:
            new = ("", reason) not in self._reported and len(self._reported) < SEEN_MAX
            self._reported.add(("", reason))
        if new:
            self._warn(path, ArchiverError(reason))

    # ---- the mount

    def init_with_config(self, connection: Any, config: Any) -> None:
        """The kernel has begun to ask."""
        del connection, config
        # libfuse 3 goes to the root folder, and an archive's path may be relative.
        with suppress(OSError):
            os.chdir(self._working_folder)
        self.was_ready = True
        self._ready()

    @_answering
    def statfs(self, path: str) -> dict[str, int]:
        """Return how much there is, and that nothing is free."""
        del path
        totals = self._tree.totals
        return {
            "f_bsize": _BLOCK,
            "f_frsize": _BLOCK,
            "f_blocks": -(-totals.bytes // _BLOCK),
            "f_files": totals.files,
            "f_namemax": 255,
        }

    # ---- names

    @_answering
    def getattr(self, path: str, handle: int | None = None) -> dict[str, int]:
        """Return what ``stat`` says."""
        del handle
        return self._stat(path, self._tree.find(path))

    def _stat(self, path: str, node: Node) -> dict[str, int]:
        size, links, changed = 0, 1, 0
        match node:
            case Folder():
                mode, links, changed = stat.S_IFDIR | 0o555, 2, node.time
            case Link():
                mode, size = stat.S_IFLNK | 0o777, len(os.fsencode(node.target))
            case Text():
                mode, size, changed = stat.S_IFREG | 0o444, len(node.data), node.time
            case File():
                mode, size, changed = stat.S_IFREG | 0o444, node.size, node.time
        times = dict.fromkeys(("st_atime", "st_mtime", "st_ctime"), changed)
        return {
            "st_mode": mode,
            "st_ino": _inode(path),
            "st_nlink": links,
            "st_size": size,
            "st_blocks": -(-size // _STAT_BLOCK),
            "st_blksize": _PREFERRED,
            **times,
            **self._owner,
        }

    @_answering
    def readdir(self, path: str, handle: int) -> list[tuple[str, dict[str, int], int]]:
        """Return the names in a folder, each with its kind."""
        del handle
        folder = self._tree.find(path)
        if not isinstance(folder, Folder):
            raise NotADirectoryError(path)
        above = {"st_mode": stat.S_IFDIR}
        entries = [(".", above, 0), ("..", above, 0)]
        for name, node in folder.names.items():
            kind = (
                stat.S_IFDIR
                if isinstance(node, Folder)
                else stat.S_IFLNK
                if isinstance(node, Link)
                else stat.S_IFREG
            )
            inode = _inode(f"{path.rstrip('/')}/{name}")
            entries.append((name, {"st_mode": kind, "st_ino": inode}, 0))
        return entries

    @_answering
    def readlink(self, path: str) -> str:
        """Return where a link leads."""
        node = self._tree.find(path)
        if not isinstance(node, Link):
            raise OSError(errno.EINVAL, path)
        return node.target

    # ---- bytes

    @_answering
    def open(self, path: str, flags: int) -> int:
        """Open a file; the number is for ``read``."""
        del flags
        node = self._tree.find(path)
        if isinstance(node, Text):
            return 0
        if not isinstance(node, File):
            raise IsADirectoryError(errno.EISDIR, path)
        try:
            content = self._source.open(node.snapshot, node.path)
        except ArchiverError as error:
            raise self._failure(node, error) from None
        with self._lock:
            handle = self._next
            self._next += 1
            self._handles[handle] = _Handle(node, content)
        return handle

    @_answering
    def read(self, path: str, size: int, offset: int, handle: int) -> bytes:
        """Return a part of a file."""
        if not handle:
            node = self._tree.find(path)
            return node.data[offset : offset + size] if isinstance(node, Text) else b""
        opened = self._handles[handle]
        stop = min(offset + size, opened.node.size)
        if offset >= stop:
            return b""
        try:
            return _joined(list(opened.content.read(offset, stop)))
        except ArchiverError as error:
            raise self._failure(opened.node, error) from None

    @_answering
    def release(self, path: str, handle: int) -> int:
        """Let go of an open file."""
        del path
        with self._lock:
            self._handles.pop(handle, None)
        return 0

    def _failure(self, node: File, error: ArchiverError) -> OSError:
        """Return what a reader gets whose read failed, and report that."""
        if not self._tree.is_held(node.snapshot):
            return OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        key = (node.snapshot.id, node.path)
        with self._lock:
            new = key not in self._reported and len(self._reported) < SEEN_MAX
            if new:
                self._reported.add(key)
        if new:
            self._report(ReadFailure(node.snapshot, node.path, error))
        return OSError(errno.EIO, os.strerror(errno.EIO))

    # ---- what is known of a file

    @_answering
    def listxattr(self, path: str) -> list[str]:
        """Return the names of a file's extended attributes, without reading its manifest."""
        is_file = isinstance(self._tree.find(path), File)
        return [f"{_XATTR}{name}" for name in ATTRIBUTES] if is_file else []

    @_answering
    def getxattr(self, path: str, name: str, position: int = 0) -> bytes:
        """Return an extended attribute of a file."""
        del position
        short = name.removeprefix(_XATTR)
        node = self._tree.find(path)
        if short == name or short not in ATTRIBUTES or not isinstance(node, File):
            raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))
        return self._source.attribute(node.snapshot, node.path, short).encode()


def _joined(pieces: list[memoryview]) -> bytes:
    """Return pieces as one; the only one as it is, where it is a copy already."""
    whole = pieces[0].obj if len(pieces) == 1 else None
    if isinstance(whole, bytes) and len(whole) == len(pieces[0]):
        return whole
    return b"".join(pieces)


def _inode(path: str) -> int:
    """Return the number of what lies at a path: the same one each time that the archive is mounted."""
    digest = blake3(path.encode("utf-8", "surrogateescape")).digest(8)
    return (int.from_bytes(digest, "big") >> 1) or 1
