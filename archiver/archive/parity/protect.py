"""Making parity sidecars: of which stored files, and only once these were proven to be whole."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing, suppress
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec

from archiver.archive import layout
from archiver.archive.fixity import file_digest, is_packed, plain_digest, require_digest
from archiver.archive.parity.coverage import sidecar_name
from archiver.archive.parity.erasure import BlockDigests, encode_group, hash_blocks
from archiver.archive.parity.sidecar import (
    ParityHeader,
    Shape,
    check_choice,
    read_sidecar,
    shape_of,
    write_sidecar,
)
from archiver.digest import blake3_hex
from archiver.errors import ArchiverError, DamageError, NoSpaceError
from archiver.progress import StoppedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from archiver.archive.archive import Archive
    from archiver.progress import Progress
    from archiver.storage.store import Reader, Staged


class ProtectionFailure(msgspec.Struct, frozen=True):
    """A file that got no sidecar, and why."""

    file: str
    reason: str
    hint: str
    exit_code: int


class ProtectionReport(msgspec.Struct, frozen=True):
    """What was done: names of stored files, and sizes in bytes.

    Attributes:
        made: Got a new sidecar.
        kept: Had a good one of this shape.
        failures: Got none.
        bytes: Of the files in ``made``.
        parity_bytes: Of their sidecars.
    """

    made: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    failures: tuple[ProtectionFailure, ...] = ()
    bytes: int = 0
    parity_bytes: int = 0


PROTECTOR_BYTES: Final = 48 << 20
"""What a thread that protects holds at most, with the usual parity of a few blocks a group."""


def protect(
    archive: Archive,
    names: Iterable[str],
    *,
    parity: int,
    group: int,
    workers: int,
    progress: Progress,
    redo: bool = False,
) -> ProtectionReport:
    """Make the sidecars of the stored files ``names``: packs, manifests, seals and events.

    A file that has a good sidecar of this shape is left alone, unless ``redo``. One that is not what
    its name demands gets none, so that parity never preserves damage; all others are still done.

    Raises:
        UsageError: There is no such parity.
        NoSpaceError: The disk is full; the sidecars made before stay.
    """
    check_choice(parity, group)
    run = _Run(archive, (parity, group), workers, progress, redo=redo)
    return run.execute(sorted(set(names)))


class _FileResult(msgspec.Struct, frozen=True):
    """What became of one file; ``parity_bytes`` is 0 if its sidecar was kept."""

    name: str
    size: int = 0
    parity_bytes: int = 0
    failure: ProtectionFailure | None = None


class _Run:
    """One run. Files and groups have threads of their own, so that none waits for itself."""

    def __init__(
        self,
        archive: Archive,
        choice: tuple[int, int],
        workers: int,
        progress: Progress,
        *,
        redo: bool,
    ) -> None:
        self._archive = archive
        self._store = archive.store
        self._choice = choice
        self._progress = progress
        self._redo = redo
        self._stop = threading.Event()
        self._workers = workers
        self._files = ThreadPoolExecutor(workers, thread_name_prefix="protect")
        self._groups = ThreadPoolExecutor(workers, thread_name_prefix="parity")

    def execute(self, names: list[str]) -> ProtectionReport:
        total = sum(self._store.stat(name) or 0 for name in names)
        # Each byte is read twice: to prove the file, and to code it.
        self._progress.expect(len(names), 2 * total)
        try:
            results = list(self._files.map(self._protect, names))
        finally:
            self._stop.set()
            self._files.shutdown(wait=True, cancel_futures=True)
            self._groups.shutdown(wait=True, cancel_futures=True)
        made = [result for result in results if result.parity_bytes]
        return ProtectionReport(
            made=tuple(result.name for result in made),
            kept=tuple(each.name for each in results if not each.parity_bytes and not each.failure),
            failures=tuple(result.failure for result in results if result.failure),
            bytes=sum(result.size for result in made),
            parity_bytes=sum(result.parity_bytes for result in made),
        )

    def _protect(self, name: str) -> _FileResult:
        try:
            with closing(self._open(name)) as reader:
                result = self._protect_open(name, reader)
        except NoSpaceError:
            raise
        except ArchiverError as error:
            failure = ProtectionFailure(name, error.message, error.hint, int(error.exit_code))
            result = _FileResult(name, failure=failure)
        self._progress.end(name)
        return result

    def _open(self, name: str) -> Reader:
        try:
            return self._store.open(name)
        except FileNotFoundError:
            raise DamageError(f"{name} is missing.", path=name) from None

    def _advance(self, count: int) -> None:
        if self._stop.is_set():
            raise StoppedError
        self._progress.advance(count, fetched=True)

    def _protect_open(self, name: str, reader: Reader) -> _FileResult:
        if not reader.size:
            raise DamageError(f"{name} is damaged: it is empty.", path=name)
        shape = shape_of(reader.size, *self._choice)
        sidecar = sidecar_name(name)
        if not self._redo and self._is_good(sidecar, name, shape, reader):
            self._progress.advance(2 * reader.size, fetched=False)
            return _FileResult(name)
        digests = hash_blocks(reader, shape, self._advance)
        # A manifest's name has the digest of its plain bytes.
        require_digest(name, plain_digest(reader, name) if is_packed(name) else digests.blake3)
        return _FileResult(name, reader.size, self._make(sidecar, name, shape, digests, reader))

    def _is_good(self, place: str, name: str, shape: Shape, reader: Reader) -> bool:
        """Return whether there is a whole sidecar of this shape for the file as it is stored."""
        with (
            suppress(DamageError, FileNotFoundError),
            closing(self._store.open(place)) as opened,
        ):
            sidecar = read_sidecar(opened, place)
            header = sidecar.header
            if sidecar.faults or (header.file, header.shape) != (name, shape):
                return False
            # A pack has one form only; a manifest could be compressed in another way.
            packed = file_digest(reader) if is_packed(name) else layout.digest_of(name)
            return packed == header.blake3 and not sidecar.bad_blocks()
        return False

    def _make(
        self, sidecar: str, name: str, shape: Shape, digests: BlockDigests, reader: Reader
    ) -> int:
        """Publish the sidecar; return its size in bytes."""
        spool, out = self._store.stage("parity-blocks"), self._store.stage("parity")
        try:
            parity_digests = tuple(self._encode(shape, digests, reader, spool))
            info = self._archive.info
            header = ParityHeader(
                archive=info.archive,
                file=name,
                size=shape.size,
                blake3=digests.blake3,
                block=shape.block,
                groups=shape.groups,
                parity=shape.parity,
                data=digests.data,
                blocks=parity_digests,
            )
            with closing(spool.reader()) as blocks:
                write_sidecar(out, header, blocks)
            size = _require_written(out, sidecar, header)
            out.publish(sidecar)
        finally:
            spool.abort()
            out.abort()
        return size

    def _encode(
        self, shape: Shape, digests: BlockDigests, reader: Reader, spool: Staged
    ) -> Iterator[str]:
        """Write the parity blocks of all groups in order; yield their digests."""
        code = partial(encode_group, reader, shape, data=digests.data, advance=self._advance)
        ahead: deque[Future[list[bytes]]] = deque()
        try:
            for group in range(shape.groups + self._workers):
                if group < shape.groups:
                    ahead.append(self._groups.submit(code, group))
                if group >= self._workers and ahead:
                    for block in ahead.popleft().result():
                        spool.write(block)
                        yield blake3_hex(block)
        finally:
            # Whatever went wrong: nobody reads the file behind its reader's back.
            wait(future for future in ahead if not future.cancel())


def _require_written(out: Staged, name: str, header: ParityHeader) -> int:
    """Read a new sidecar back from the medium; return its size. DamageError unless all is right."""
    with closing(out.reader()) as reader:
        reader.fresh()
        sidecar = read_sidecar(reader, name)
        if sidecar.header != header or sidecar.faults or sidecar.bad_blocks():
            raise DamageError(f"{name} did not read back as it was written; it was not published.")
        return reader.size
