"""Making parity sidecars of stored files that were proven to be whole."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing, suppress
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from archiver.archive import layout
from archiver.archive.fixity import file_digest, is_packed, plain_digest, require_digest
from archiver.archive.parity.erasure import Survey, encode_group, survey
from archiver.archive.parity.sidecar import (
    ParityHeader,
    Shape,
    check_choice,
    read_sidecar,
    shape_of,
    write_sidecar,
)
from archiver.archive.publish import closure_names
from archiver.digest import blake3_hex
from archiver.errors import ArchiverError, DamageError, NoSpaceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from archiver.archive.archive import Archive
    from archiver.archive.seals import Snapshot
    from archiver.progress import Progress
    from archiver.storage.store import Reader, Staged, Store


class Unprotected(msgspec.Struct, frozen=True):
    """A file that got no sidecar, and why."""

    file: str
    reason: str
    hint: str
    exit_code: int


class Protected(msgspec.Struct, frozen=True):
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
    failures: tuple[Unprotected, ...] = ()
    bytes: int = 0
    parity_bytes: int = 0


def protect(
    archive: Archive,
    names: Iterable[str],
    *,
    parity: int,
    group: int,
    workers: int,
    progress: Progress,
    redo: bool = False,
) -> Protected:
    """Make the sidecars of the stored files ``names``: packs, manifests, seals and events.

    A file that has a good sidecar of this shape is left alone, unless ``redo``. One that is not what
    its name demands gets none, so that parity never preserves damage; all others are still done.

    Raises:
        UsageError: There is no such parity.
        NoSpaceError: The disk is full; the sidecars made before stay.
    """
    check_choice(parity, group)
    run = _Run(archive, (parity, group), workers, progress, redo=redo)
    return run.protect(sorted(set(names)))


class _Done(msgspec.Struct, frozen=True):
    """What became of one file; ``parity_bytes`` is 0 if its sidecar was kept."""

    name: str
    size: int = 0
    parity_bytes: int = 0
    failure: Unprotected | None = None


class _StoppedError(Exception):
    """The run has ended; a thread that still works ends too."""


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

    def protect(self, names: list[str]) -> Protected:
        total = sum(self._store.stat(name) or 0 for name in names)
        # Each byte is read twice: to prove the file, and to code it.
        self._progress.expect(len(names), 2 * total)
        try:
            done = list(self._files.map(self._attempt, names))
        finally:
            self._stop.set()
            self._files.shutdown(wait=True, cancel_futures=True)
            self._groups.shutdown(wait=True, cancel_futures=True)
        made = [one for one in done if one.parity_bytes]
        return Protected(
            made=tuple(one.name for one in made),
            kept=tuple(one.name for one in done if not one.parity_bytes and not one.failure),
            failures=tuple(one.failure for one in done if one.failure),
            bytes=sum(one.size for one in made),
            parity_bytes=sum(one.parity_bytes for one in made),
        )

    def _attempt(self, name: str) -> _Done:
        try:
            with closing(self._open(name)) as reader:
                done = self._one(name, reader)
        except NoSpaceError:
            raise
        except ArchiverError as error:
            failure = Unprotected(name, error.message, error.hint, int(error.exit_code))
            done = _Done(name, failure=failure)
        self._progress.end(name)
        return done

    def _open(self, name: str) -> Reader:
        try:
            return self._store.open(name)
        except FileNotFoundError:
            raise DamageError(f"{name} is missing.", path=name) from None

    def _advance(self, count: int) -> None:
        if self._stop.is_set():
            raise _StoppedError
        self._progress.advance(count, fetched=True)

    def _one(self, name: str, reader: Reader) -> _Done:
        if not reader.size:
            raise DamageError(f"{name} is damaged: it is empty.", path=name)
        shape = shape_of(reader.size, *self._choice)
        place = layout.parity_name(layout.digest_of(name) or "")
        if not self._redo and self._is_good(place, name, shape, reader):
            self._progress.advance(2 * reader.size, fetched=False)
            return _Done(name)
        found = survey(reader, shape, self._advance)
        # A manifest's name has the digest of its plain bytes.
        require_digest(name, plain_digest(reader, name) if is_packed(name) else found.blake3)
        return _Done(name, reader.size, self._make(place, name, shape, found, reader))

    def _is_good(self, place: str, name: str, shape: Shape, reader: Reader) -> bool:
        """Whether there is a whole sidecar of this shape for the file as it is stored."""
        with suppress(DamageError, FileNotFoundError), closing(self._store.open(place)) as there:
            sidecar = read_sidecar(there, place)
            header = sidecar.header
            if sidecar.faults or (header.file, header.shape) != (name, shape):
                return False
            # A pack has one form only; a manifest could be compressed in another way.
            packed = file_digest(reader) if is_packed(name) else layout.digest_of(name)
            return packed == header.blake3 and not sidecar.bad_blocks()
        return False

    def _make(self, place: str, name: str, shape: Shape, found: Survey, reader: Reader) -> int:
        """Publish the sidecar; its size in bytes."""
        spool, out = self._store.stage("parity-blocks"), self._store.stage("parity")
        try:
            digests = tuple(self._encode(shape, found, reader, spool))
            info = self._archive.info
            header = ParityHeader(
                archive=info.archive,
                file=name,
                size=shape.size,
                blake3=found.blake3,
                block=shape.block,
                groups=shape.groups,
                parity=shape.parity,
                data=found.data,
                blocks=digests,
                features=info.features,
            )
            with closing(spool.reader()) as blocks:
                write_sidecar(out, header, blocks)
            size = _require_written(out, place, header)
            out.publish(place)
        finally:
            spool.abort()
            out.abort()
        return size

    def _encode(self, shape: Shape, found: Survey, reader: Reader, spool: Staged) -> Iterator[str]:
        """Write the parity blocks of all groups in order; their digests."""
        code = partial(encode_group, reader, shape, data=found.data, advance=self._advance)
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
            wait(one for one in ahead if not one.cancel())


def _require_written(out: Staged, place: str, header: ParityHeader) -> int:
    """Read a new sidecar back from the medium; its size. DamageError unless all of it is right."""
    with closing(out.reader()) as reader:
        reader.fresh()
        sidecar = read_sidecar(reader, place)
        if sidecar.header != header or sidecar.faults or sidecar.bad_blocks():
            raise DamageError(f"{place} did not read back as it was written; it was not published.")
        return reader.size


# ---- Which stored files parity is for: what seals need, the seals themselves, and the journal.


def names_of(snapshots: Iterable[Snapshot]) -> set[str]:
    """The names of these seals, and of the manifests and packs that they need."""
    found: set[str] = set()
    for one in snapshots:
        found.add(one.name)
        found.update(closure_names(one.seal))
    return found


def all_names(archive: Archive) -> set[str]:
    """The names of everything that parity is for; a damaged seal's own name is among them."""
    damaged: set[str] = set()
    whole = list(archive.snapshots(on_damage=lambda name, _error: damaged.add(name)))
    return names_of(whole) | damaged | set(archive.journal.names())


def sidecar_of(name: str) -> str:
    """The name of a stored file's sidecar; ``name`` is a pack's, manifest's, seal's or event's."""
    return layout.parity_name(layout.digest_of(name) or "")


def without_sidecar(store: Store, names: Iterable[str]) -> list[str]:
    """Those of the stored files that have no sidecar, sorted; none is read."""
    there = set(store.list(layout.PARITY))
    return sorted(name for name in names if sidecar_of(name) not in there)
