"""Bringing one stored file back: staged, read back, proven, and only then under its name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from archiver.archive import layout
from archiver.archive.out_of_use import keep_aside
from archiver.archive.repair.proof import staged_right, stored_right
from archiver.archive.repair.trial import Trial
from archiver.errors import ArchiverError, DamageError, NoSpaceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from archiver.archive.repair.copies import Candidate, FileSource
    from archiver.storage.store import Staged, Store

PURPOSE: Final = "repair"
"""What a staged file of a repair is called."""


class Mended(msgspec.Struct, frozen=True):
    """A stored file that is right again, or that other files stand in for.

    Attributes:
        name: The file that was damaged or missing.
        source: Where its bytes came from.
        instead: The files that stand in for it; empty if it is there again, byte for byte.
    """

    name: str
    source: str
    instead: tuple[str, ...] = ()


class WholeFiles:
    """Puts good copies of stored files in the place of damaged and missing ones."""

    def __init__(self, store: Store, sources: Sequence[FileSource], *, dry_run: bool) -> None:
        """Ask the sources in this order."""
        self._store = store
        self._sources = sources
        self.dry_run = dry_run
        self.foreseen: dict[str, bytes] = {}
        """In a dry run, the events that would be brought back: stored name -> content."""

    def heal(self, name: str) -> Mended | None:
        """Bring a pack, manifest, seal or event back; None if no source has it whole, or it is whole.

        Raises NoSpaceError at once; another failure of the archive's own disk is raised too.
        """
        if stored_right(self._store, name, name):
            return None
        for source in self._sources:
            for candidate in source(name):
                if self._takes(name, candidate):
                    return Mended(name, candidate.source)
        return None

    def _takes(self, name: str, candidate: Candidate) -> bool:
        if self.dry_run:
            return candidate.usable() and self._foresee(name, candidate)
        staged = self._store.stage(PURPOSE)
        try:
            if not _written(candidate, staged) or not staged_right(staged, name):
                return False
            keep_aside(self._store, name)
            staged.publish(name)
        finally:
            staged.abort()
        return True

    def _foresee(self, name: str, candidate: Candidate) -> bool:
        """Keep an event that would be brought back: it may say what is not missing at all."""
        if layout.event_of(name) is None:
            return True
        trial = Trial()
        try:
            if not _written(candidate, trial) or not staged_right(trial, name):
                return False
            reader = trial.reader()
            content = bytearray(reader.size)
            reader.read_into(0, memoryview(content))
        finally:
            trial.abort()
        self.foreseen[name] = bytes(content)
        return True

    def put(self, name: str, data: bytes, source: str) -> Mended:
        """Write a file whose content is known; DamageError if it does not come back as written."""
        if not self.dry_run:
            staged = self._store.stage(PURPOSE)
            try:
                staged.write(data)
                _require_same(staged, name, data)
                keep_aside(self._store, name)
                staged.publish(name)
            finally:
                staged.abort()
        return Mended(name, source)


def _written(candidate: Candidate, staged: Staged) -> bool:
    try:
        candidate.write(staged)
    except NoSpaceError:
        raise
    except (ArchiverError, FileNotFoundError):
        return False
    return True


def _require_same(staged: Staged, name: str, data: bytes) -> None:
    reader = staged.reader()
    try:
        reader.fresh()
        back = bytearray(reader.size)
        reader.read_into(0, memoryview(back))
    finally:
        reader.close()
    if back != data:
        raise DamageError(
            f"The new {name} was not the same when it was read back; nothing was replaced.",
            hint="Test this machine's memory, cables and disks.",
        )
