"""What a dry run has in place of the archive's disk: it writes nothing there, and sees what it would have.

``ScratchFile`` takes what would be staged; ``OverlayStore`` shows small files that would have come back.
"""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING, Any

from archiver.errors import ArchiverError, DamageError, explain_system_error

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from archiver.storage.store import FileStamp, Reader, Store


class ScratchFile:
    """A nameless temporary file outside of the archive; use it as a staged one, and ``abort`` it."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - abort closes it

    def write(self, *pieces: bytes | bytearray | memoryview) -> None:
        """Append ``pieces``; NoSpaceError when the disk of temporary files is full."""
        try:
            for piece in pieces:
                self._file.write(piece)
        except OSError as error:
            raise explain_system_error(error, "a repair was tried out") from error

    def cut(self, size: int) -> None:
        """Keep the first ``size`` bytes only."""
        self._file.truncate(size)
        self._file.seek(size)

    def reader(self) -> ScratchReader:
        """Return a reader of what was written so far."""
        self._file.flush()
        return ScratchReader(self._file.fileno())

    def publish(self, name: str) -> None:
        """Raise ArchiverError: a dry run publishes nothing."""
        raise ArchiverError(f"{name} was only tried out.")

    def keep(self) -> None:
        """Let go of the file: nothing of it stays."""
        self.abort()

    def abort(self) -> None:
        """Throw the file away."""
        self._file.close()


class ScratchReader:
    """Reads a scratch file back."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self.size = os.fstat(handle).st_size

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fill ``buffer`` from ``offset``; return the number of bytes read, less only at the end."""
        done = 0
        while done < len(buffer):
            count = os.preadv(self._handle, [buffer[done:]], offset + done)
            if not count:
                break
            done += count
        return done

    def fresh(self) -> None:
        """Do nothing: it was written to no medium that counts."""

    def close(self) -> None:
        """Do nothing: the scratch file keeps its handle."""


class OverlayStore:
    """A store to be read, in which small ``files`` (stored name -> content) are there, and whole."""

    def __init__(self, store: Store, files: Mapping[str, bytes]) -> None:
        self._store = store
        self._files = files

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def get(self, name: str, limit: int) -> bytes:
        """Return a whole file; errors as the store's."""
        data = self._files.get(name)
        if data is None:
            return self._store.get(name, limit)
        if len(data) > limit:
            raise DamageError(f"{name} is {len(data)} bytes long; at most {limit} can be right.")
        return data

    def open(self, name: str) -> Reader:
        """Open a file for ranged reads."""
        data = self._files.get(name)
        return self._store.open(name) if data is None else _MemoryReader(data)

    def stat(self, name: str) -> int | None:
        """Return the file's size in bytes, or None."""
        data = self._files.get(name)
        return self._store.stat(name) if data is None else len(data)

    def stamp(self, name: str) -> FileStamp | None:
        """Return by what a change is noticed; None of what is not written."""
        return None if name in self._files else self._store.stamp(name)

    def list(self, prefix: str) -> Iterator[str]:
        """Return the names of files below the folder ``prefix``, sorted by folder."""
        more = {name for name in self._files if not prefix or name.startswith(f"{prefix}/")}
        yield from sorted(more.union(self._store.list(prefix)), key=lambda name: name.split("/"))


class _MemoryReader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def read_into(self, offset: int, buffer: memoryview) -> int:
        part = self._data[offset : offset + len(buffer)]
        buffer[: len(part)] = part
        return len(part)

    def fresh(self) -> None:
        """Do nothing: it lies on no medium."""

    def close(self) -> None:
        """Do nothing: there is nothing to release."""
