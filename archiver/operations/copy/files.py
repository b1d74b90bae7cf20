"""Copying what is not a pack: manifests, seals, events, signatures and parity sidecars."""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from functools import partial
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING, Final

from archiver.archive import layout
from archiver.archive.events import parse_event
from archiver.archive.fixity import ReadResult, require_named
from archiver.archive.journal import EVENT_MAX
from archiver.archive.parity.sidecar import read_sidecar
from archiver.archive.publish import announced, closure_names, recheck
from archiver.archive.records import MANIFEST_MAX, SEAL_MAX
from archiver.archive.signing.minisign import FILE_MAX, parse_signature
from archiver.errors import ArchiverError, DamageError, InvalidDocumentError, UnknownFormatError

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from archiver.archive.archive import Archive
    from archiver.archive.check.packs import ExpectedPack
    from archiver.archive.findings import Code
    from archiver.archive.seals import Snapshot
    from archiver.archive.transfer import Flow, Transfer
    from archiver.operations.copy.report import Faults
    from archiver.storage.store import Reader


_SIDECAR_MAX: Final = 5 << 30
"""A frame of parity blocks has less than 4 GiB."""


class Documents:
    """Copies from one archive to another; what is damaged goes to ``faults``."""

    def __init__(
        self, source: Archive, target: Archive, transfer: Transfer, faults: Faults
    ) -> None:
        self._source = source
        self._target = target
        self._transfer = transfer
        self._faults = faults
        self.copied = 0
        """Events, signatures and sidecars."""

    def manifest(self, snapshot: Snapshot) -> bool:
        """Bring a snapshot's manifest over; whether the target can read it now."""
        name = closure_names(snapshot.seal)[0]
        try:
            return self._copied(snapshot, name)
        except InvalidDocumentError as error:
            state = ReadResult(error.message, "", invalid=True)
            return self._faults.document("manifest-invalid", state, name, snapshot.title)

    def _copied(self, snapshot: Snapshot, name: str) -> bool:
        if not self._reads(snapshot):
            state = self._transfer.copy(name, MANIFEST_MAX)
            if not self._faults.document("manifest-damaged", state, name, snapshot.title):
                return False
        return self._reads(snapshot) or self._faults.document(
            "manifest-damaged",
            ReadResult(f"{name} is not what its seal says.", ""),
            name,
            snapshot.title,
        )

    def _reads(self, snapshot: Snapshot) -> bool:
        try:
            self._target.manifest(snapshot.seal)
        except InvalidDocumentError:
            raise
        except DamageError:
            return False
        return True

    def seal(self, snapshot: Snapshot) -> bool:
        """Publish a snapshot whose packs and manifest are there; whether its seal could be copied.

        DamageError if something of it vanished meanwhile.
        """
        name = snapshot.name
        with announced(self._target.store, closure_names(snapshot.seal)):
            recheck(self._target, snapshot.seal)
            state = self._transfer.copy(name, SEAL_MAX)
        return self._faults.document("seal-damaged", state, name, snapshot.title)

    def events(self) -> None:
        """Bring over the events that the target has not, each after those that it follows."""
        names = {
            layout.event_of(name): name
            for name in self._source.journal.names()
            if self._target.store.stat(name) != self._source.store.stat(name)
        }
        # Also those that a run published that died before it synced their folder: others follow them.
        self._target.store.barrier(self._target.journal.names())
        order = TopologicalSorter({one: self._follows(names[one]) for one in names})
        for digest in order.static_order():
            if digest in names:
                name = names[digest]
                state = self._transfer.copy(name, EVENT_MAX, partial(_require_event, name=name))
                self._note("event-damaged", state, name)

    def _follows(self, name: str) -> tuple[str, ...]:
        try:
            return self._source.journal.read(name).after
        except ArchiverError:
            return ()  # copying it will tell

    def sidecars(self, digests: set[str]) -> None:
        """Bring over the sidecars of files with these digests in their names, if the target has none."""
        for name in self._source.store.list(layout.PARITY):
            if layout.parity_of(name) in digests and self._target.store.stat(name) is None:
                state = self._transfer.copy(
                    name, _SIDECAR_MAX, partial(_require_sidecar, name=name)
                )
                self._note("parity-damaged", state, name)

    def signatures(self, digests: set[str]) -> None:
        """Bring over the signatures of documents with these digests, as far as the target has none."""
        for name in self._source.store.list(layout.SIGNATURES):
            found = layout.signature_of(name)
            if found and found.digest in digests and self._target.store.stat(name) is None:
                check = partial(_require_signature, name=name)
                state = self._transfer.copy(name, FILE_MAX, check)
                self._note("signature-damaged", state, name)

    def _note(self, code: Code, state: ReadResult, name: str) -> None:
        self.copied += self._faults.document(code, state, name)


def _require_event(reader: Reader, name: str) -> None:
    require_named(reader, name)
    parse_event(_content(reader), f"The event {name}")


def _require_sidecar(reader: Reader, name: str) -> None:
    try:
        found = read_sidecar(reader, name)
    except UnknownFormatError as error:
        raise DamageError(error.message) from error
    if found.faults or found.bad_blocks():
        raise DamageError(
            f"{name} is damaged: {', '.join(found.faults) or 'a block is not right'}."
        )


def _require_signature(reader: Reader, name: str) -> None:
    """Whether it verifies is for whoever has the key; it must be a signature by the key of its name."""
    try:
        key = parse_signature(_content(reader)).key
    except DamageError as error:
        raise DamageError(f"{name} is damaged: {error.message}.", path=name) from error
    told = layout.signature_of(name)
    if told is None or key != told.key:
        raise DamageError(f"{name} is not a signature by the key that its name has.", path=name)


def _content(reader: Reader) -> bytes:
    data = bytearray(reader.size)
    reader.read_into(0, memoryview(data))
    return bytes(data)


# ---- Copying packs, several at a time.


_POLL_SECONDS: Final = 0.5
"""So that Ctrl-C is heard while all threads copy."""


def copy_packs(
    transfer: Transfer, packs: Sequence[ExpectedPack], workers: int, flow: Flow
) -> Generator[tuple[ExpectedPack, ReadResult], None, None]:
    """Copy packs, and tell of each how it went, in whatever order; to be closed if left early.

    Raises what the target raises; the copies that are under way are thrown away then.
    """
    pool = ThreadPoolExecutor(workers, thread_name_prefix="copy")
    running = {pool.submit(transfer.copy, one.name, max(one.sizes)): one for one in packs}
    waiting = set(running)
    try:
        while waiting:
            done, waiting = wait(waiting, _POLL_SECONDS, FIRST_COMPLETED)
            for future in done:
                yield running[future], future.result()
    finally:
        flow.stop()
        pool.shutdown(wait=True, cancel_futures=True)
