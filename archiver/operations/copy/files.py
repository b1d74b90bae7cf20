"""Copying stored files: packs, several at a time, documents, each after what it needs; and what is damaged.

A file that is damaged in the source becomes a finding on the source, and the copy goes on without it.
"""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import closing
from functools import partial
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING, Final, Literal

from archiver.archive import layout
from archiver.archive.advice import Advice, RepairFrom
from archiver.archive.events import parse_event
from archiver.archive.findings import Finding
from archiver.archive.fixity import (
    ReadResult,
    file_digest,
    require_named,
    staged_right,
    stored_right,
)
from archiver.archive.journal import EVENT_MAX
from archiver.archive.manifests import manifest_file
from archiver.archive.parity.sidecar import read_sidecar
from archiver.archive.publish import closure_names, sealing
from archiver.archive.records import MANIFEST_MAX, SEAL_MAX
from archiver.archive.signing.minisign import FILE_MAX, parse_signature
from archiver.archive.transfer import PURPOSE
from archiver.errors import ArchiverError, DamageError, InvalidDocumentError, UnknownFormatError

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from archiver.archive.advice import Actions
    from archiver.archive.archive import Archive
    from archiver.archive.check.pack_reading import ExpectedPack
    from archiver.archive.findings import Code
    from archiver.archive.seals import Snapshot
    from archiver.archive.transfer import Flow, Transfer
    from archiver.storage.store import Reader

_SIDECAR_MAX: Final = 5 << 30
"""A frame of parity blocks has less than 4 GiB."""
_POLL_SECONDS: Final = 0.5
"""So that Ctrl-C is heard while all threads copy."""


class SourceFindings:
    """Collects findings on ``source`` while it is copied to ``target``."""

    def __init__(self, source: Archive, target: Archive) -> None:
        self._source = source.store
        self._target = target.store
        self._advice = Advice(source.store.address)
        self.all: list[Finding] = []
        self.packs: set[str] = set()
        """The packs that are not whole in the source."""

    def lacks(self, expected: ExpectedPack) -> bool:
        """Return whether the source has not even a file of the right size for a pack, and note it then."""
        try:
            size = self._source.stat(expected.name)
        except ArchiverError as error:
            self._pack("file-unreadable", error.message, expected)
            return True
        if size in expected.sizes:
            return False
        if size is None:
            self._pack("pack-missing", f"{expected.name} is missing.", expected)
        else:
            sizes = " or ".join(f"{each:,}" for each in sorted(expected.sizes))
            text = f"{expected.name} has {size:,} bytes, its seals say {sizes}."
            self._pack("pack-size", text, expected)
        return True

    def pack(self, expected: ExpectedPack, result: ReadResult) -> None:
        """Note what came out of copying a pack."""
        if result.unstable:
            self._unstable(result, expected.name)
        if result.denied:
            self._pack("file-unreadable", result.problem, expected)
        elif result.problem:
            there = self._source.stat(expected.name) is not None
            self._pack("pack-damaged" if there else "pack-missing", result.problem, expected)

    def _pack(self, code: Code, message: str, expected: ExpectedPack) -> None:
        actions, titles = self._actions(expected.name, code), tuple(expected.snapshots)
        self.all.append(
            Finding(code, message, pack=expected.pack, snapshots=titles, actions=actions)
        )
        self.packs.add(expected.pack)

    def _actions(self, name: str, code: Code, snapshot: str = "") -> Actions:
        if code == "file-unreadable":
            return self._advice.make_readable(snapshot)
        if stored_right(self._target, name, name):  # read to its end: somebody may rely on it
            return (RepairFrom(self._source.address, self._target.address),)
        return self._advice.copy_back(name, code, snapshot)

    def document(
        self,
        code: Code,
        result: ReadResult,
        name: str,
        snapshot: str = "",
        *,
        copied_from: Literal["", "packs"] = "",
    ) -> bool:
        """Note what came out of copying another file; return whether it is right."""
        if result.unstable:
            self._unstable(result, name)
        if result.problem:
            code = "file-unreadable" if result.denied else code
            actions = self._actions(name, code, snapshot)
            if result.invalid:
                actions = self._advice.replace_snapshot(snapshot)
            titles = (snapshot,) if snapshot else ()
            finding = Finding(
                code,
                result.problem,
                path=name,
                snapshots=titles,
                actions=actions,
                copied_from=copied_from,
            )
            self.all.append(finding)
        return not result.problem

    def _unstable(self, result: ReadResult, name: str) -> None:
        actions = self._advice.unstable()
        self.all.append(Finding("read-unstable", result.unstable, path=name, actions=actions))


def copy_packs(
    transfer: Transfer, packs: Sequence[ExpectedPack], workers: int, flow: Flow
) -> Generator[tuple[ExpectedPack, ReadResult], None, None]:
    """Copy packs, and give each with how it went, in whatever order; to be closed if left early.

    Raise what the target raises; the copies that are under way are thrown away then.
    """
    pool = ThreadPoolExecutor(workers, thread_name_prefix="copy")
    try:
        running = {pool.submit(transfer.copy, pack.name, max(pack.sizes)): pack for pack in packs}
        waiting = set(running)
        while waiting:
            done, waiting = wait(waiting, _POLL_SECONDS, FIRST_COMPLETED)
            for future in done:
                yield running[future], future.result()
    finally:
        flow.stop()
        pool.shutdown(wait=True, cancel_futures=True)


class DocumentCopier:
    """Copies from one archive to another; what is damaged goes to ``findings``."""

    def __init__(
        self, source: Archive, target: Archive, transfer: Transfer, findings: SourceFindings
    ) -> None:
        self._source = source
        self._target = target
        self._transfer = transfer
        self._findings = findings
        self.copied = 0
        """Events, signatures and sidecars."""
        self._written: set[str] = set()
        """Digests of manifests that were compressed anew: a sidecar may be of other bytes."""

    def manifest(self, snapshot: Snapshot) -> bool:
        """Bring a snapshot's manifest over; return whether the target can read it now."""
        name = closure_names(snapshot.seal)[0]
        try:
            return self._copied(snapshot, name)
        except InvalidDocumentError as error:
            result = ReadResult(error.message, "", invalid=True)
            return self._findings.document("manifest-invalid", result, name, snapshot.title)

    def _copied(self, snapshot: Snapshot, name: str) -> bool:
        if not self._reads(snapshot):
            result = self._transfer.copy(name, MANIFEST_MAX)
            from_packs = bool(result.problem) and self._write_from_packs(snapshot, name)
            there = result.denied or self._source.store.stat(name) is not None
            code: Code = "manifest-damaged" if there else "manifest-missing"
            right = self._findings.document(
                code, result, name, snapshot.title, copied_from="packs" if from_packs else ""
            )
            if not right and not from_packs:
                return False
        return self._reads(snapshot) or self._findings.document(
            "manifest-damaged",
            ReadResult(f"{name} is not what its seal says.", ""),
            name,
            snapshot.title,
        )

    def _write_from_packs(self, snapshot: Snapshot, name: str) -> bool:
        """Write a manifest from the copy that the snapshot's packs have; return whether that is whole."""
        try:
            self._source.manifest(snapshot.seal)  # raises if the snapshot is not what it says
            plain = self._source.manifest_bytes(snapshot.seal)
        except ArchiverError:
            return False
        staged = self._target.store.stage(PURPOSE)
        try:
            staged.write(manifest_file(plain))
            whole = staged_right(staged, name)
            if whole:
                staged.publish(name)
                self._written.add(snapshot.seal.manifest.blake3)
        finally:
            staged.abort()
        return whole

    def _reads(self, snapshot: Snapshot) -> bool:
        try:
            self._target.manifest_file(snapshot.seal)
        except InvalidDocumentError:
            raise
        except DamageError:
            return False
        return True

    def seal(self, snapshot: Snapshot) -> bool:
        """Publish a snapshot whose packs and manifest are there; return whether its seal could be copied.

        Raise DamageError if something of it vanished meanwhile.
        """
        name = snapshot.name
        with sealing(self._target, snapshot.seal):
            result = self._transfer.copy(name, SEAL_MAX)
        return self._findings.document("seal-damaged", result, name, snapshot.title)

    def events(self) -> None:
        """Bring over the events that the target has not, each after those that it follows."""
        names = {
            layout.event_of(name): name
            for name in self._source.journal.names()
            if self._target.store.stat(name) != self._source.store.stat(name)
        }
        # Also those that a run published that died before it synced their folder: others follow them.
        self._target.store.barrier(self._target.journal.names())
        order = TopologicalSorter({event: self._follows(name) for event, name in names.items()})
        for digest in order.static_order():
            if digest in names:
                name = names[digest]
                result = self._transfer.copy(name, EVENT_MAX, partial(_require_event, name=name))
                self._note("event-damaged", result, name)

    def _follows(self, name: str) -> tuple[str, ...]:
        try:
            return self._source.journal.read(name).after
        except ArchiverError:
            return ()  # copying it will say why

    def sidecars(self, digests: set[str]) -> None:
        """Bring over the sidecars of files with these digests in their names, if the target has none."""
        for name in self._source.store.list(layout.PARITY):
            digest = layout.parity_of(name)
            if digest not in digests or self._target.store.stat(name) is not None:
                continue
            if digest in self._written and not self._protects(name):
                continue
            result = self._transfer.copy(name, _SIDECAR_MAX, partial(_require_sidecar, name=name))
            self._note("parity-damaged", result, name)

    def _protects(self, name: str) -> bool:
        """Return whether a sidecar is of the very bytes that the target's file has."""
        try:
            with closing(self._source.store.open(name)) as reader:
                header = read_sidecar(reader, name).header
            with closing(self._target.store.open(header.file)) as reader:
                return file_digest(reader) == header.blake3
        except (ArchiverError, FileNotFoundError):
            return False

    def signatures(self, digests: set[str]) -> None:
        """Bring over the signatures of documents with these digests, as far as the target has none."""
        for name in self._source.store.list(layout.SIGNATURES):
            signature = layout.signature_of(name)
            if signature and signature.digest in digests and self._target.store.stat(name) is None:
                check = partial(_require_signature, name=name)
                result = self._transfer.copy(name, FILE_MAX, check)
                self._note("signature-damaged", result, name)

    def _note(self, code: Code, result: ReadResult, name: str) -> None:
        self.copied += self._findings.document(code, result, name)


def _require_event(reader: Reader, name: str) -> None:
    require_named(reader, name)
    parse_event(_content(reader), f"The event {name}")


def _require_sidecar(reader: Reader, name: str) -> None:
    try:
        sidecar = read_sidecar(reader, name)
    except UnknownFormatError as error:
        raise DamageError(error.message) from error
    if sidecar.faults or sidecar.bad_blocks():
        raise DamageError(
            f"{name} is damaged: {', '.join(sidecar.faults) or 'a block is not right'}."
        )


def _require_signature(reader: Reader, name: str) -> None:
    """Require a signature by the key of its name; whether it verifies is for whoever has that key."""
    try:
        key = parse_signature(_content(reader)).key
    except DamageError as error:
        raise DamageError(f"{name} is damaged: {error.message}.", path=name) from error
    signature = layout.signature_of(name)
    if signature is None or key != signature.key:
        raise DamageError(f"{name} is not a signature by the key that its name has.", path=name)


def _content(reader: Reader) -> bytes:
    data = bytearray(reader.size)
    reader.read_into(0, memoryview(data))
    return bytes(data)
