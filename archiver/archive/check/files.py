"""Making every file of a snapshot, without writing it, to see that it has its own digests."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from archiver.archive.decode import FileDecoder, FileTask, Proof, decoder_workers
from archiver.archive.fixity import drop_cached
from archiver.archive.layout import pack_name
from archiver.archive.packs.index import ObjectIndex
from archiver.digest import blake3_hex
from archiver.errors import ArchiverError, DamageError
from archiver.memory import trim

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from archiver.archive.archive import Archive
    from archiver.archive.check.schedule import Schedule
    from archiver.archive.records import FileEntry
    from archiver.archive.seals import Snapshot
    from archiver.memory import MemoryBudget
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
        self, archive: Archive, schedule: Schedule, progress: Progress, memory: MemoryBudget
    ) -> None:
        self._archive = archive
        self._schedule = schedule
        self._progress = progress
        self._memory = memory
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
        contents: dict[str, list[FileEntry]] = {}
        for entry in manifest.files:
            content = blake3_hex(msgspec.json.encode(msgspec.structs.replace(entry, path="")))
            contents.setdefault(content, []).append(entry)
        due = [content for content in contents if content not in self._known]
        trim()  # of what reading the packs took
        with FileDecoder(packs, workers=decoder_workers(self._memory)) as decoder:
            faults = self._make(decoder, {content: contents[content][0] for content in due})
            for made, fault in faults.items():
                if not fault:
                    self._known.add(made)
                elif isinstance(fault, DamageError):
                    self._make_again(snapshot, contents[made], fault.message, decoder)
        if len(faults) < len(due):
            self.complete = False
        elif not any(faults.values()):
            self.proven.append(snapshot.id)

    def _make(
        self, decoder: FileDecoder, entries: Mapping[str, FileEntry]
    ) -> dict[str, ArchiverError | None]:
        """Return what became of files, in their order, as far as the budget goes; None: all is right."""
        begun: list[str] = []

        def tasks() -> Iterator[FileTask]:
            for content, entry in entries.items():
                if not self._schedule.allows(entry.size):
                    return
                begun.append(content)
                yield FileTask(entry, lambda: _Counted(self._progress))

        with closing(decoder.files(tasks(), Proof.DIGESTS)) as done:
            errors = {id(file.task.entry): file.error for file in done}
        return {content: errors[id(entries[content])] for content in begun}

    def _make_again(
        self, snapshot: Snapshot, entries: list[FileEntry], reason: str, decoder: FileDecoder
    ) -> None:
        """Make a file once more, from the medium: only then it is believed that it does not come out."""
        for pack, _ in snapshot.seal.packs:
            drop_cached(self._archive.store, pack_name(pack))
        task = FileTask(entries[0], lambda: _Counted(self._progress))
        with closing(decoder.files([task], Proof.DIGESTS)) as done:
            (file,) = done
        if file.error is not None and not isinstance(file.error, DamageError):
            return  # a pack that may not be read: a finding where packs are judged
        second_reason = file.error.message if file.error else ""
        self.differing += (
            DifferingFile(snapshot, entry, second_reason or reason, stable=bool(second_reason))
            for entry in entries
        )


class _Counted:
    """A file that is made and written nowhere; see ``decode.Output``."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def write_at(self, offset: int, data: memoryview) -> None:
        """Count the bytes."""
        del offset
        self._progress.advance(len(data), fetched=True)

    def accept(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""
