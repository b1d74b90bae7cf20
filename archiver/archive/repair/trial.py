"""A staged file outside of the archive, for a dry run: it can be written and read back, not published."""

from __future__ import annotations

import os
import tempfile

from archiver.errors import ArchiverError, explain_system_error


class Trial:
    """A nameless temporary file; use it as a staged one, and ``abort`` it."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - abort closes it

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append ``data``; NoSpaceError when the disk of temporary files is full."""
        try:
            self._file.write(data)
        except OSError as error:
            raise explain_system_error(error, "a repair was tried out") from error

    def cut(self, size: int) -> None:
        """Keep the first ``size`` bytes only."""
        self._file.truncate(size)
        self._file.seek(size)

    def reader(self) -> TrialReader:
        """What was written so far."""
        self._file.flush()
        return TrialReader(self._file.fileno())

    def publish(self, name: str) -> None:
        """A trial publishes nothing."""
        raise ArchiverError(f"{name} was only tried out.")

    def keep(self) -> None:
        """Let go of the file: nothing of it stays."""
        self.abort()

    def abort(self) -> None:
        """Throw the file away."""
        self._file.close()


class TrialReader:
    """Reads a trial back."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self.size = os.fstat(handle).st_size

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fill ``buffer`` from ``offset``; the number of bytes read, less only at the end."""
        done = 0
        while done < len(buffer):
            got = os.preadv(self._handle, [buffer[done:]], offset + done)
            if not got:
                break
            done += got
        return done

    def fresh(self) -> None:
        """It was written to no medium that counts."""

    def close(self) -> None:
        """The trial keeps its file."""
