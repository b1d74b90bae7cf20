"""Making every file of a snapshot, without writing it, to see that it has its own digests."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from archiver.archive.decode import FileDecoder
from archiver.archive.fixity import drop_cached
from archiver.archive.layout import pack_name
from archiver.archive.packs.index import ObjectIndex
from archiver.digest import blake3_hex
from archiver.errors import ArchiverError, DamageError

if TYPE_CHECKING:
    from archiver.archive.archive import Archive
    from archiver.archive.check.schedule import Schedule
    from archiver.archive.records import FileEntry
    from archiver.archive.seals import Snapshot
    from archiver.progress import Progress


class DifferingFile(NamedTuple):
    """A file that did not come out; ``stable`` unless it did when it was made again."""

    snapshot: Snapshot
    entry: FileEntry
    reason: str
    stable: bool


class FileCheck:
    """Makes files; what did not come out is in ``differing``."""

    def __init__(
        self, archive: Archive, schedule: Schedule, progress: Progress, workers: int
    ) -> None:
        self._archive = archive
        self._schedule = schedule
        self._progress = progress
        self._workers = workers
        self._known: set[str] = set()
        """Digests of the entries, without their paths, whose files came out."""
        self.differing: list[DifferingFile] = []
        self.proven: list[str] = []
        """The ids of the snapshots whose files all came out."""
        self.complete = True
        """Whether no file was left out because the budget had ended."""

    def check(self, snapshot: Snapshot) -> None:
        """Make the files of a snapshot, as far as its manifest can be read and the budget goes."""
        try:
            manifest = self._archive.manifest(snapshot.seal)
        except ArchiverError:
            return  # a finding where the snapshot is judged
        packs = ObjectIndex(
            self._archive, (pack for pack, _ in snapshot.seal.packs), self._archive.packs
        )
        proven = True
        with FileDecoder(packs, workers=self._workers) as decoder:
            for entry in manifest.files:
                content = blake3_hex(msgspec.json.encode(msgspec.structs.replace(entry, path="")))
                if content in self._known:
                    continue
                if not self._schedule.allows(entry.size):
                    self.complete = False
                    return
                if self._comes_out(snapshot, entry, decoder):
                    self._known.add(content)
                else:
                    proven = False
        if proven:
            self.proven.append(snapshot.id)

    def _comes_out(self, snapshot: Snapshot, entry: FileEntry, decoder: FileDecoder) -> bool:
        try:
            reason = self._fault(entry, decoder)
            if not reason:
                return True
            for pack, _ in snapshot.seal.packs:
                drop_cached(self._archive.store, pack_name(pack))
            second_reason = self._fault(entry, decoder)
        except ArchiverError:
            return False  # a pack that may not be read: a finding where packs are judged
        self.differing.append(
            DifferingFile(snapshot, entry, second_reason or reason, stable=bool(second_reason))
        )
        return False

    def _fault(self, entry: FileEntry, decoder: FileDecoder) -> str:
        def sink(piece: memoryview) -> None:
            self._progress.advance(len(piece), fetched=True)

        try:
            decoder.copy(entry, sink)
        except DamageError as error:
            return error.message
        return ""
