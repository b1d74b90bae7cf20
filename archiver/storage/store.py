"""The Store protocol: the few operations an archive needs of the place it lives in.

Names are lowercase ASCII, relative, with ``/`` between parts (``check_name``). Everything that is
published is immutable. Errors are domain errors: DamageError for what cannot be read, NoSpaceError
for a full disk, ArchiverError for the rest.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple, Protocol

from archiver.errors import ArchiverError, NotLocalError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from archiver.storage.filesystem import Limit

_CARRIED = {"README.txt", "FORMAT.md", "START-HERE.html", "MANIFEST.md"}
"""What a person looks for first keeps the capitals that a person expects."""
_LONGEST = 1024
_NAME = re.compile(r"(?:[a-z0-9_-][a-z0-9._-]*)(?:/[a-z0-9_-][a-z0-9._-]*)*\Z")


def check_name(name: str) -> str:
    """Return ``name`` if a store may use it; raise ArchiverError otherwise."""
    if name not in _CARRIED and (len(name) > _LONGEST or not _NAME.match(name)):
        raise ArchiverError(f"{name[:100]!r} is not a name that an archive uses.")
    return name


class Staged(Protocol):
    """A file being written, invisible until it is published."""

    def write(self, *pieces: bytes | bytearray | memoryview) -> None:
        """Append ``pieces``; after an error a part of it may be there, which ``cut`` takes off."""

    def cut(self, size: int) -> None:
        """Keep the first ``size`` bytes only; the next ``write`` goes on from there."""

    def reader(self) -> Reader:
        """Open what was written so far, to be read back before it is published."""

    def publish(self, name: str) -> None:
        """Make the file durable, then visible under ``name``, then read-only.

        If ``name`` is there already with the same bytes, this file is thrown away. Names are
        digests, so other bytes under the name are damaged, and are replaced. After an error the
        file is to be aborted or kept; one that could not be made durable is gone.
        """

    def keep(self) -> None:
        """Let go of the file and leave it as a leftover; harmless after ``publish``."""

    def abort(self) -> None:
        """Throw the file away; harmless after ``publish`` or ``keep``."""


class Reader(Protocol):
    """An open stored file that several threads may read at once."""

    size: int

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fill ``buffer`` from ``offset``; return the number of bytes read, less only at the file's end."""

    def fresh(self) -> None:
        """Let later reads come from the medium, as far as the system allows, not from memory."""

    def close(self) -> None:
        """Release the file."""


class OpensFiles(Protocol):
    """What stored files are read from: a store, or several that are read as one."""

    def open(self, name: str) -> Reader:
        """Open a file for ranged reads; raise FileNotFoundError if there is none."""


class Leftover(Protocol):
    """A staged file whose writer died before it was published.

    ``size`` is in bytes; ``idle`` are the seconds since it was last written to.
    """

    name: str
    size: int
    idle: float

    def reader(self) -> Reader:
        """Open it for ranged reads."""

    def resume(self, size: int) -> Staged:
        """Go on writing it after its first ``size`` bytes; it is no leftover any more."""

    def discard(self) -> None:
        """Remove it."""

    def release(self) -> None:
        """Let go of it; harmless after ``discard`` and ``resume``."""


class FileStamp(NamedTuple):
    """What changes with a file: its size in bytes, when it was modified and changed, in nanoseconds.

    No number of its inode: FAT and exFAT give others each time that the disk is mounted.
    """

    size: int
    modified: int
    changed: int


class LocalFolder(Protocol):
    """What a store can do besides if it is a folder of this machine."""

    path: Path
    """The folder, as its owner named it."""

    def scratch(self, name: str) -> Path:
        """Return the path of a private working file in ``tmp/``: lost at any time, never restored from."""

    def replace_scratch(self, name: str, content: Callable[[int], bytes]) -> None:
        """Put a working file of this stored name, in ``tmp/``, in the place of the one before.

        ``content`` is called with the time by the disk's own clock, in nanoseconds. What is there after a
        crash may be cut, or empty. Raise ArchiverError if it cannot be written.
        """

    def make_room(self, working: Iterable[str]) -> None:
        """On a full disk, give up what was put by, and ``working``, files that nobody needs.

        For whoever is about to delete something, and has to write for that.
        """

    def require_no_links(self, folders: Iterable[str]) -> None:
        """Raise LinkedFolderError if one of these folders is a link, or on another disk.

        Every operation that writes or deletes asks so for itself; this is for the start of a run.
        """

    def limits(self) -> frozenset[Limit]:
        """Return what the filesystem lacks that most have, asked of it without writing."""


class Store(Protocol):
    """Where an archive's files live.

    Everything here can be asked of any store. What only a folder of this machine can do is asked of
    ``folder``, or of ``local_folder`` by whoever cannot do without.
    """

    @property
    def address(self) -> str:
        """What names the place, for people and for ``-C``; a path only if there is a ``folder``."""

    @property
    def folder(self) -> LocalFolder | None:
        """The folder of this machine that the store is; None if it is none."""

    def stage(self, purpose: str) -> Staged:
        """Begin a new file; ``purpose`` (a file name part) tells a person what a leftover was."""

    def leftovers(self, purpose: str) -> Iterator[Leftover]:
        """Give the staged files of ``purpose`` that no living process is writing."""

    def is_of_one_machine(self) -> bool:
        """Return whether nobody but this machine can be writing here; False if not known."""

    def require_writable(self) -> None:
        """Raise the error that says why nothing can be written here, if nothing can.

        Where there is plenty of room some of it is put by, for ``LocalFolder.make_room``.
        """

    def free_bytes(self) -> int | None:
        """Return the room left for new files, in bytes; None where nobody can tell."""

    def put_new(self, name: str, data: bytes) -> bool:
        """Publish a small file durably; return False if ``name`` was there already."""

    def get(self, name: str, limit: int) -> bytes:
        """Return a whole file.

        Raise FileNotFoundError if there is none, DamageError if it has more than ``limit`` bytes.
        """

    def open(self, name: str) -> Reader:
        """Open a file for ranged reads; raise FileNotFoundError if there is none."""

    def link(self, name: str, other: str) -> None:
        """Give a stored file a second, durable name, so that it stays when the first is replaced.

        Raise FileNotFoundError if there is no ``name``, FileExistsError if there is an ``other``.
        """

    def move(self, name: str, other: str) -> None:
        """Take a stored file from one name to another, durably; errors as for ``link``.

        A crash leaves it under the one, the other, or both.
        """

    def remove(self, name: str) -> None:
        """Delete a stored file for good, durably; harmless if there is none."""

    def tidy(self, prefix: str) -> None:
        """Remove the empty folders below the folder ``prefix``, where nobody may be adding anything."""

    def stat(self, name: str) -> int | None:
        """Return the file's size in bytes, or None if there is none."""

    def stamp(self, name: str) -> FileStamp | None:
        """Return by what a change of a file is noticed; None if there is none, or nobody can tell."""

    def list(self, prefix: str) -> Iterator[str]:
        """Give the names of files below the folder ``prefix`` (``""``: all of them), sorted by folder."""

    def pass_over_unreadable(self) -> None:
        """From now on, ``list`` notes folders that this user may not list, and goes on.

        Only for whoever reads, and names ``passed_over`` in the end: what is needed cannot be known.
        """

    def passed_over(self) -> Mapping[str, str]:
        """Return the names of the folders that were passed over, each with the reason."""

    def barrier(self, names: Iterable[str] = ()) -> None:
        """Return once everything published before will survive a crash.

        So will the names of ``names``, stored files that another process may have published and not
        made durable, or that are gone.
        """


def local_folder(store: Store) -> LocalFolder:
    """Return the folder of this machine that ``store`` is; raise NotLocalError if it is none."""
    if store.folder is None:
        raise NotLocalError(store.address)
    return store.folder
