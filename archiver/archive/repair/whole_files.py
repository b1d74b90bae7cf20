"""Bringing one stored file back: staged, read back, proven, and only then under its name."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import cached_property
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from archiver.archive import layout
from archiver.archive.fixity import file_digest, is_packed, plain_digest, staged_right, stored_right
from archiver.archive.quarantine import link_to_quarantine, quarantined_names
from archiver.archive.repair.objects import OWN
from archiver.archive.transfer import pieces
from archiver.errors import ArchiverError, DamageError, NoSpaceError, explain_system_error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from archiver.archive.check.result import CheckResult
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
            link_to_quarantine(self._store, name)
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
                link_to_quarantine(self._store, name)
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


# ---- Where a whole stored file may come from: other files that had, or have, its name; and parity.


class Candidate(NamedTuple):
    """A file that may be the one that is wanted.

    Attributes:
        source: Where it comes from, for the report.
        write: Writes it to a staged file; ArchiverError if it cannot be had.
        usable: Whether it would do, without writing anything.
    """

    source: str
    write: Callable[[Staged], None]
    usable: Callable[[], bool]


FileSource = Callable[[str], Iterator[Candidate]]
"""Stored name -> what may be the file."""


def same_name(store: Store, title: str) -> FileSource:
    """The file of the same name in another store."""

    def find(name: str) -> Iterator[Candidate]:
        if store.stat(name) is not None:
            yield stored_candidate(store, name, name, title)

    return find


def aside_copies(store: Store, title: str) -> FileSource:
    """Files in quarantine and trash that had the name, the newest first."""
    names: list[str] = []
    listed = False

    def find(name: str) -> Iterator[Candidate]:
        nonlocal listed
        if not listed:
            names.extend(quarantined_names(store))
            listed = True
        for one in names:
            found = layout.quarantined_of(one)
            if found is not None and found.name == name.lower():
                yield stored_candidate(store, one, name, f"{title}{one.partition('/')[0]}")

    return find


def from_parity(store: Store, title: str) -> FileSource:
    """What a sidecar, and what is left of the file, give."""
    from archiver.archive.parity.heal import heal  # noqa: PLC0415 - only a repair pays for its codec

    def usable(name: str) -> bool:
        trial = Trial()
        try:
            heal(store, name, trial)
        except (ArchiverError, FileNotFoundError):
            return False
        finally:
            trial.abort()
        return True

    def find(name: str) -> Iterator[Candidate]:
        digest = layout.digest_of(name)
        if digest is not None and store.stat(layout.parity_name(digest)) is not None:
            yield Candidate(
                f"{title}parity", lambda out: heal(store, name, out), lambda: usable(name)
            )

    return find


def stored_candidate(store: Store, where: str, name: str, source: str) -> Candidate:
    """The stored file ``where``, if it is what ``name`` demands."""
    return Candidate(
        source, lambda out: _copy(store, where, out), lambda: stored_right(store, where, name)
    )


def _copy(store: Store, where: str, out: Staged) -> None:
    reader = store.open(where)
    try:
        for piece in pieces(reader):
            out.write(piece)
    finally:
        reader.close()


# ---- A staged file outside of the archive, for a dry run: it can be written and read back, not published.


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


# ---- Stored files that lie under names which are not theirs, such as two that were swapped.


_DOCUMENTS: Final = {"seal-damaged", "manifest-damaged", "event-damaged"}


class Misplaced:
    """A source of whole files: what an examination called damaged may be another file, whole."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seen: dict[str, str] = {}
        """The digest that a file has -> the name that it was seen under."""

    def learn(self, found: CheckResult) -> None:
        """Note what is under the names of packs and documents that are damaged."""
        for result in found.pack_results:
            if result.blake3 not in {"", result.pack}:
                self._seen[result.blake3] = layout.pack_name(result.pack)
        for finding in found.findings:
            if finding.code in _DOCUMENTS:
                self._look(finding.path)

    def _look(self, name: str) -> None:
        digest = self._digest(name, name)
        if digest:
            self._seen[digest] = name

    def _digest(self, where: str, name: str) -> str:
        """What the stored file ``where``, which has or had ``name``, holds; ``""`` if it cannot be read."""
        with suppress(ArchiverError, FileNotFoundError), closing(self._store.open(where)) as reader:
            return plain_digest(reader, name) if is_packed(name) else file_digest(reader)
        return ""

    @cached_property
    def _set_aside(self) -> dict[str, str]:
        """Documents that a run which died may have set aside: digest -> name now. Packs are walked."""
        before = ((one, layout.quarantined_of(one)) for one in quarantined_names(self._store))
        return {
            self._digest(one, found.name): one
            for one, found in before
            if found is not None and not layout.pack_of(found.name)
        }

    def __call__(self, name: str) -> Iterator[Candidate]:
        """The file that was seen, where it was or where a repair has set it aside since."""
        digest = layout.digest_of(name) or ""
        place = self._seen.get(digest)
        where = [one for one in (place, self._set_aside.get(digest)) if one is not None]
        for one in quarantined_names(self._store) if place else ():
            found = layout.quarantined_of(one)
            where += [one] if found is not None and found.name == place else []
        yield from (stored_candidate(self._store, one, name, OWN) for one in where)
