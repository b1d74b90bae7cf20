"""A stored file on its way from one archive to another: copied, read back, proven, published.

Nothing is taken at its word: a file has arrived once what was written is what its name demands.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

from blake3 import blake3

from archiver.archive.fixity import ReadResult, file_digest, read_or_reread, require_named
from archiver.buffers import workspace
from archiver.errors import ArchiverError, DamageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.progress import Progress
    from archiver.storage.store import Reader, Staged, Store
    from archiver.throttle import Throttle

Check = Callable[["Reader"], None]
PURPOSE: Final = "copy"
"""What a staged file is called after, and a leftover of a run that died."""
_PIECE: Final = 4 << 20
COPIER_BYTES: Final = 3 * _PIECE
"""What a thread that copies holds at most: a piece, and one more when it reads back what it wrote."""


class StoppedError(Exception):
    """The run has ended; a thread that still copies ends too."""


class Flow:
    """What several threads copy together: counted, held to a rate, and stopped at once."""

    def __init__(self, progress: Progress | None, throttle: Throttle | None = None) -> None:
        self._progress = progress
        self._throttle = throttle
        self._stop = threading.Event()

    def stop(self) -> None:
        """Let every thread end at its next piece."""
        self._stop.set()

    def advance(self, count: int) -> None:
        """Count bytes that were copied, and wait where they were too fast; StoppedError once it ended."""
        if self._throttle is not None:
            self._throttle.take(count)
        if self._stop.is_set():
            raise StoppedError
        if self._progress is not None:
            self._progress.advance(count, fetched=True)

    def rewind(self, count: int) -> None:
        """Take back bytes that were copied in vain."""
        if self._progress is not None:
            self._progress.rewind(count)


class _TargetError(Exception):
    """Writing failed, which says nothing of the file that was read."""

    def __init__(self, reason: ArchiverError) -> None:
        super().__init__(reason.message)
        self.reason = reason


class Transfer:
    """Copies stored files from one store to another; threads may share it."""

    def __init__(self, source: Store, target: Store, flow: Flow) -> None:
        self._source = source
        self._target = target
        self._flow = flow

    def copy(self, name: str, limit: int, check: Check | None = None) -> ReadResult:
        """Publish in the target what the source has under ``name``; return what is wrong with it otherwise.

        It may have at most ``limit`` bytes. ``check`` raises DamageError unless what was written is
        right; without it, that is what the name demands. Raise what the target raises, such as
        NoSpaceError; nothing is published then.
        """
        check = check or partial(require_named, name=name)
        try:
            return read_or_reread(self._source, name, lambda: self._attempt(name, limit, check))[1]
        except _TargetError as error:
            raise error.reason from error

    def _attempt(self, name: str, limit: int, check: Check) -> None:
        """Copy, read back, prove, publish; a fault of the target is no fault of what was read."""
        with closing(self._source.open(name)) as reader:
            if reader.size > limit:
                raise DamageError(f"{name} has {reader.size:,} bytes, more than can be right.")
            with _writing():
                staged = self._target.stage(PURPOSE)
            copied, hasher = 0, blake3()
            try:
                for piece in pieces(reader):
                    hasher.update(piece)
                    with _writing():
                        staged.write(piece)
                    copied += len(piece)
                    self._flow.advance(len(piece))
                # What is proven is what the target will give, not what is still in memory.
                _require_written(staged, hasher.hexdigest())
                with closing(staged.reader()) as written:
                    check(written)
                with _writing():
                    staged.publish(name)
            except DamageError:
                self._flow.rewind(copied)
                raise
            finally:
                staged.abort()


def pieces(reader: Reader) -> Iterator[memoryview]:
    """Yield an open file's bytes, each piece valid until the next; raise DamageError if it ends early."""
    for at in range(0, reader.size, _PIECE):
        buffer = workspace().take("copy", min(_PIECE, reader.size - at)).data
        if reader.read_into(at, buffer) != len(buffer):
            raise DamageError("A file became shorter while it was read.")
        yield buffer


def _require_written(staged: Staged, digest: str) -> None:
    """Raise _TargetError unless what was written can be read back."""
    with _writing(), closing(staged.reader()) as written:
        written.fresh()
        if file_digest(written) != digest:
            raise ArchiverError(
                "What was written to a new file is not what came out when it was read back.",
                hint="Nothing of it was published. Test this machine's memory, cables and disks.",
            )


@contextmanager
def _writing() -> Iterator[None]:
    """Tell errors of the target from those of the source."""
    try:
        yield
    except ArchiverError as error:
        raise _TargetError(error) from error
