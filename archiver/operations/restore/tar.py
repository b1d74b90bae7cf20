"""A snapshot's files as one tar on a pipe. No file is announced before it is proven.

What a reader of a pipe has taken cannot be taken back, so a tar that is not complete must fail there:

- A file is decoded and compared before its header is sent. A larger one is decoded again as it is sent,
  and compared again.
- The last byte of each file is held back until the next header, or the end, goes out with it. So a
  stream that is cut at any moment, also by a kill, ends in the middle of a file.
- Where a file is left out or fails, the end of the archive is replaced by a header whose own bytes are
  missing. GNU tar, bsdtar, BusyBox and Python's tarfile all fail there.

The same files give the same bytes: POSIX.1-2001 (pax), in the manifest's order, with fixed modes and times.
"""

from __future__ import annotations

import select
import tarfile
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import msgspec

from archiver.archive.advice import audit_hint
from archiver.archive.decode import (
    FileDecoder,
    FileTask,
    Nowhere,
    Proof,
    decoder_workers,
    is_small,
)
from archiver.archive.quarantine import packs_for
from archiver.archive.seals import Snapshot
from archiver.errors import ArchiverError, DamageError, explain_system_error
from archiver.memory import MemoryBudget, trim
from archiver.operations.restore.files import failure_of, selected_files
from archiver.operations.restore.report import RestoreReport
from archiver.progress import StoppedError, stop_requested

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from archiver.archive.archive import Archive
    from archiver.archive.records import FileEntry
    from archiver.progress import Progress

_BLOCK: Final = 512
_RECORD: Final = 20 * _BLOCK
"""What a tar's size is a multiple of."""
_HELD_MAX: Final = 1 << 20
_TIME: Final = 315_532_800
"""1980-01-01, the earliest that FAT and zip can hold: GNU tar warns of earlier ones, and it is as good as
any, since a snapshot keeps no times."""
_MODE: Final = 0o644
_BROKEN_OFF: Final = "archiver: this tar was broken off, and is not complete"

Mend = Callable[["Progress"], "Archive | None"]
"""Gives an archive from which what is damaged is perhaps whole; None if it could mend nothing."""


class TarRequest(msgspec.Struct, frozen=True):
    """Which files go into a tar.

    Attributes:
        snapshot: The snapshot whose files they are.
        patterns: Paths, or patterns that they fit; none: all files.
        proof: What must be right about a file before it is sent.
        stop_on_damage: Whether the first file that is damaged ends the stream; else it is left out.
        memory: What this may take, and so how many threads work.
        mend: Called once, when a file is damaged.
    """

    snapshot: Snapshot
    patterns: tuple[str, ...] = ()
    proof: Proof = Proof.FILES
    stop_on_damage: bool = False
    memory: MemoryBudget = MemoryBudget()
    mend: Mend | None = None


class ReaderGoneError(ArchiverError):
    """Whoever read the tar has stopped."""


def restore_tar(
    archive: Archive, request: TarRequest, out: ByteSink, progress: Progress
) -> RestoreReport:
    """Write the files that are asked for to ``out``: a tar that comes to its end only if all of them did.

    A damaged file is left out and listed in the report; the others are still sent, and the tar is broken
    off after them. ``out`` is only written to, and nothing else may be written there meanwhile.

    Raises:
        DamageError: The manifest cannot be read; nothing was sent.
        UsageError: No file fits; nothing was sent.
        NoSpaceError: What ``out`` leads to is full.
        ReaderGoneError: Nobody reads ``out`` any more.
    """
    snapshot = request.snapshot
    files, vouching, _ = selected_files(archive, snapshot, request.patterns)
    progress.expect(len(files), sum(entry.size for entry in files))
    trim()  # of the manifest's text; the buffers come next
    run = _Run(archive, request, TarStream(out), progress)
    run.send(files)
    packs = packs_for(archive, snapshot)
    failures = tuple(
        failure_of(entry, error, audit_hint(error, archive.store.address, snapshot.title), packs)
        for entry in files
        if (error := run.errors.get(entry.path)) is not None
    )
    return RestoreReport(
        repository=snapshot.seal.repository,
        revision=snapshot.seal.revision,
        snapshot=snapshot.id,
        destination="-",
        files=run.sent,
        bytes=run.bytes,
        kept=0,
        failures=failures,
        untried=len(files) - run.sent - len(failures),
        vouched=vouching,
        proof=request.proof,
    )


class ByteSink(Protocol):
    """Where a tar goes, such as a pipe."""

    def write(self, data: memoryview, /) -> int | None:
        """Write some of it, and return how many bytes; None if none can be taken now."""

    def fileno(self) -> int:
        """Return the number of the file."""


class TarStream:
    """A tar that is being written; it is cut in the middle of a file until ``end`` was called.

    What is held back goes out in one write with the beginning of what follows. That is less than what a
    pipe takes in one piece, but for a row of empty files.
    """

    def __init__(self, out: ByteSink) -> None:
        self._out = out
        self._held = bytearray()
        """The last byte of the last file that has some, and all that comes after it."""
        self._size = 0

    def begin(self, path: str, size: int) -> None:
        """Announce a file, so many bytes of which must follow."""
        self._hold(_header(path, size))
        if len(self._held) > _HELD_MAX:
            self._put_held()

    def write(self, data: memoryview) -> None:
        """Send bytes of the file."""
        self._size += len(data)
        self._put_held(data[: min(_BLOCK, len(data) - 1)])
        self._put(data[_BLOCK:-1])
        self._held += data[-1:]

    def end_file(self, size: int) -> None:
        """Fill up the last block of a file of so many bytes."""
        self._hold(bytes(-size % _BLOCK))

    def end(self) -> None:
        """Send the end of the archive."""
        self._hold(bytes(2 * _BLOCK))
        self._hold(bytes(-self._size % _RECORD))
        self._put_held()

    def break_off(self) -> None:
        """Send what is held back, and then what no reader takes for the end of an archive."""
        size = (
            2 * _BLOCK
        )  # of which the half is sent: GNU tar fails; Python does for want of a file
        comment = _record("comment", _BROKEN_OFF)
        self._hold(_pax_header(size) + comment.ljust(_BLOCK, b"\0"))
        self._put_held()

    def _hold(self, data: bytes) -> None:
        self._size += len(data)
        self._held += data

    def _put_held(self, following: bytes | memoryview = b"") -> None:
        data = bytes(self._held) + following
        self._held.clear()
        self._put(data)

    def _put(self, data: bytes | memoryview) -> None:
        rest = memoryview(data)
        with _explained():
            while rest:
                written = self._out.write(rest)
                if written is None:  # somebody else has made the pipe one that does not wait
                    select.select([], [self._out], [])
                rest = rest[written or 0 :]


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError as error:
        raise ReaderGoneError(
            "Whoever was reading the tar has stopped: it is not complete.",
            hint="Nothing is wrong with the archive. See what the reader says, and run this again.",
        ) from error
    except OSError as error:
        error.filename = "stdout"
        explained = explain_system_error(error, "the tar was being written")
        explained.hint = "Run it again when that is mended: a tar begins from its start."
        raise explained from error


def _header(path: str, size: int) -> bytes:
    """Return what announces a file: one block, with a pax header before it if the name asks for one."""
    info = tarfile.TarInfo(path)
    info.size, info.mtime, info.mode = size, _TIME, _MODE
    return info.tobuf(tarfile.PAX_FORMAT)


def _pax_header(size: int) -> bytes:
    """Return the header of records for the next file, of so many bytes."""
    info = tarfile.TarInfo("././@PaxHeader")
    info.type, info.size, info.mtime, info.mode = tarfile.XHDTYPE, size, _TIME, _MODE
    return info.tobuf(tarfile.USTAR_FORMAT)


def _record(key: str, value: str) -> bytes:
    """Return a record of a pax header: its own length in bytes, key and value."""
    body = f" {key}={value}\n".encode()
    size = len(body)
    while len(str(size)) + len(body) != size:
        size = len(str(size)) + len(body)
    return str(size).encode() + body


class _Proven(NamedTuple):
    """What was found out of a file: ``error`` if it is not right, and all of it if it is a small one."""

    error: ArchiverError | None
    data: bytes | None


class _Source:
    """The packs of one archive: files are proven from them, and sent from them, both at a time."""

    def __init__(self, archive: Archive, request: TarRequest) -> None:
        packs = packs_for(archive, request.snapshot)
        workers = decoder_workers(request.memory)
        self._proof = request.proof
        self._stopped = False
        self._prover = FileDecoder(packs, workers=max(1, workers // 2))
        # With room for the buffers of one decoder there is one, and nothing is proven ahead.
        self.is_ahead = workers > 1
        self._sender = (
            FileDecoder(packs, workers=workers - workers // 2) if self.is_ahead else self._prover
        )

    def stop(self) -> None:
        """Have what is being proven end soon."""
        self._stopped = True

    def close(self) -> None:
        """End all threads."""
        for decoder in (self._prover, self._sender):
            decoder.__exit__()

    def prove(self, entry: FileEntry) -> _Proven:
        """Decode and compare a file, and keep its bytes if it is small."""
        output = _Kept() if is_small(entry) else _Checked(self._require_running)
        task = FileTask(entry, lambda: output)
        with closing(self._prover.files([task], self._proof)) as done:
            (file,) = done
        data = bytes(output.data) if isinstance(output, _Kept) else None
        return _Proven(file.error, data)

    def send(self, proven: _Proven, entry: FileEntry, sink: Callable[[memoryview], None]) -> None:
        """Hand the bytes of a proven file to ``sink``; raise DamageError if they are other ones now."""
        if proven.data is None:
            self._sender.copy(entry, sink, self._proof)
        elif proven.data:
            sink(memoryview(proven.data))

    def _require_running(self) -> None:
        if self._stopped or stop_requested.is_set():
            raise StoppedError


class _Kept(Nowhere):
    """Keeps the bytes of a small file, which come all at once."""

    def __init__(self) -> None:
        self.data: bytes | memoryview = b""

    def write_at(self, offset: int, data: memoryview) -> None:
        """Keep them."""
        assert offset == 0, "small files are made in one piece"
        self.data = data


class _Checked(Nowhere):
    """Keeps nothing, and ends once the run does."""

    def __init__(self, go_on: Callable[[], None]) -> None:
        self._go_on = go_on

    def write_at(self, offset: int, data: memoryview) -> None:
        """Forget them."""
        del offset, data
        self._go_on()


class _Run:
    """One tar: which files were sent, and why others were not."""

    def __init__(
        self, archive: Archive, request: TarRequest, stream: TarStream, progress: Progress
    ) -> None:
        self._archive = archive
        self._request = request
        self._stream = stream
        self._progress = progress
        self._mend = request.mend
        self.sent = self.bytes = 0
        self.errors: dict[str, ArchiverError] = {}
        """Why a file is not in the tar, by its path."""

    def send(self, files: Sequence[FileEntry]) -> None:
        """Send files, each once it is proven; end the tar, or break it off if it lacks one of them."""
        self._source = _Source(self._archive, self._request)
        pool = ThreadPoolExecutor(1, thread_name_prefix="prove")
        try:
            self._send_each(files, pool)
        finally:
            self._source.stop()
            pool.shutdown(wait=True, cancel_futures=True)
            self._source.close()

    def _send_each(self, files: Sequence[FileEntry], pool: ThreadPoolExecutor) -> None:
        ahead: Future[_Proven] | None = None
        for number, entry in enumerate(files, 1):
            proven = self._source.prove(entry) if ahead is None else ahead.result()
            if isinstance(proven.error, DamageError) and self._is_mended():
                proven = self._source.prove(entry)
            ahead = None
            if number < len(files) and self._source.is_ahead:
                ahead = pool.submit(self._source.prove, files[number])
            if proven.error is None:
                try:
                    self._send_file(entry, proven)
                except DamageError as error:
                    # Its header went out already: nothing can come after it.
                    self.errors[entry.path] = error
                    return
            else:
                self.errors[entry.path] = proven.error
                if self._request.stop_on_damage and isinstance(proven.error, DamageError):
                    break
        if self.errors:
            self._stream.break_off()
        else:
            self._stream.end()

    def _send_file(self, entry: FileEntry, proven: _Proven) -> None:
        self._progress.begin(entry.path, entry.size)

        def sink(piece: memoryview) -> None:
            self._stream.write(piece)
            self._progress.advance(len(piece), fetched=True)

        self._stream.begin(entry.path, entry.size)
        self._source.send(proven, entry, sink)
        self._stream.end_file(entry.size)
        self._progress.end(entry.path)
        self.sent += 1
        self.bytes += entry.size

    def _is_mended(self) -> bool:
        """Mend what can be mended, the first time; return whether files come from elsewhere now."""
        mend, self._mend = self._mend, None
        archive = mend(self._progress) if mend is not None else None
        if archive is None:
            return False
        self._source.close()
        self._source = _Source(archive, self._request)
        return True
