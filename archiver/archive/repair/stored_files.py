"""One stored file as a whole: copied from wherever it still is, proven, and only then put under its name.

Its bytes may come from quarantine or trash, from a file under another's name, from another archive, or from
parity. Whatever the source says, the file is staged, read back from the medium, and compared with what its
name demands; what it replaces keeps a second name in quarantine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import cache, cached_property
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from archiver.archive import layout
from archiver.archive.fixity import file_digest, is_packed, plain_digest, staged_right, stored_right
from archiver.archive.manifests import manifest_file
from archiver.archive.quarantine import link_to_quarantine, quarantined_names
from archiver.archive.repair.dry_run import ScratchFile
from archiver.archive.repair.objects import THIS_ARCHIVE
from archiver.archive.transfer import pieces
from archiver.errors import ArchiverError, DamageError, NoSpaceError, skip_damaged

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from archiver.archive.archive import Archive
    from archiver.archive.check.result import CheckResult
    from archiver.archive.packs.folders import PackFolders
    from archiver.archive.seals import Snapshot
    from archiver.storage.store import Reader, Staged, Store

PURPOSE: Final = "repair"
"""What a staged file of a repair is called."""


class RepairedFile(msgspec.Struct, frozen=True):
    """A stored file that is right again, or that other files stand in for.

    Attributes:
        name: The file that was damaged or missing.
        source: Where its bytes came from.
        replaced_by: The files that stand in for it; empty if it is there again, byte for byte.
    """

    name: str
    source: str
    replaced_by: tuple[str, ...] = msgspec.field(default=(), name="instead")


class Candidate(NamedTuple):
    """A file that may be the one that is missing or damaged.

    Attributes:
        source: Where it comes from, for the report.
        write: Writes it to a staged file; ArchiverError if it cannot be had.
        is_usable: Tells whether it would do, without writing anything to the archive.
    """

    source: str
    write: Callable[[Staged], None]
    is_usable: Callable[[], bool]


FileSource = Callable[[str], Iterator[Candidate]]
"""Stored name -> what may be the file."""


class FileRepair:
    """Puts good copies of stored files in the place of damaged and missing ones."""

    def __init__(self, store: Store, sources: Sequence[FileSource], *, dry_run: bool) -> None:
        """Ask the sources in this order."""
        self._store = store
        self._sources = sources
        self.dry_run = dry_run
        self.unwritten_events: dict[str, bytes] = {}
        """In a dry run, the events that would be brought back: stored name -> content."""

    def repair(self, name: str) -> RepairedFile | None:
        """Bring a pack, manifest, seal or event back; return None if no source has it, or it is whole.

        Raise NoSpaceError at once; another failure of the archive's own disk is raised too.
        """
        if stored_right(self._store, name, name):
            return None
        accept = self._try_out if self.dry_run else self._replace
        for source in self._sources:
            for candidate in source(name):
                if accept(name, candidate):
                    return RepairedFile(name, candidate.source)
        return None

    def _replace(self, name: str, candidate: Candidate) -> bool:
        """Put the candidate in the file's place if it is what the name demands; return whether it is."""
        staged = self._store.stage(PURPOSE)
        try:
            if not _is_written(candidate, staged) or not staged_right(staged, name):
                return False
            # First: if this is interrupted, the damaged file has two names, and the next run goes on.
            link_to_quarantine(self._store, name)
            staged.publish(name)
        finally:
            staged.abort()
        return True

    def _try_out(self, name: str, candidate: Candidate) -> bool:
        """Return whether the candidate would do; an event is kept: it may say what is not missing."""
        if not candidate.is_usable():
            return False
        if layout.event_of(name) is None:
            return True
        scratch = ScratchFile()
        try:
            if not _is_written(candidate, scratch) or not staged_right(scratch, name):
                return False
            self.unwritten_events[name] = _content(scratch.reader())
        finally:
            scratch.abort()
        return True

    def put(self, name: str, data: bytes, source: str) -> RepairedFile:
        """Write a file whose content is known; raise DamageError if it does not come back as written."""
        if not self.dry_run:
            staged = self._store.stage(PURPOSE)
            try:
                staged.write(data)
                with closing(staged.reader()) as reader:
                    reader.fresh()
                    if _content(reader) != data:
                        raise DamageError(
                            f"The new {name} was not the same when it was read back; "
                            "nothing was replaced.",
                            hint="Test this machine's memory, cables and disks.",
                        )
                link_to_quarantine(self._store, name)
                staged.publish(name)
            finally:
                staged.abort()
        return RepairedFile(name, source)


def _is_written(candidate: Candidate, staged: Staged) -> bool:
    try:
        candidate.write(staged)
    except NoSpaceError:
        raise
    except (ArchiverError, FileNotFoundError):
        return False
    return True


def _content(reader: Reader) -> bytes:
    content = bytearray(reader.size)
    reader.read_into(0, memoryview(content))
    return bytes(content)


# Where a whole file may come from.


def same_name(store: Store, title: str) -> FileSource:
    """Return a source of files of the same name in another store."""

    def find(name: str) -> Iterator[Candidate]:
        if store.stat(name) is not None:
            yield _stored_candidate(store, name, name, title)

    return find


def from_pack_folder(folder: PackFolders, title: str) -> FileSource:
    """Return a source of the packs in a folder that is no archive."""

    def find(name: str) -> Iterator[Candidate]:
        pack = layout.pack_of(name)
        place = folder.place(pack) if pack else None
        if place is not None:
            yield _stored_candidate(place[0], place[1], name, title)

    return find


def from_quarantine(store: Store, title: str) -> FileSource:
    """Return a source of files in quarantine and trash that had the name, the newest first."""
    # Listed once: what this repair quarantines is damaged.
    names = cache(lambda: quarantined_names(store))

    def find(name: str) -> Iterator[Candidate]:
        for copy in copies_among(names(), name):
            yield _stored_candidate(store, copy, name, f"{title}{copy.partition('/')[0]}")

    return find


def copies_among(quarantined: Iterable[str], name: str) -> list[str]:
    """Return which of these files in quarantine and trash had the stored name before."""
    before = ((copy, layout.quarantined_of(copy)) for copy in quarantined)
    return [copy for copy, old in before if old is not None and old.name == name.lower()]


def from_parity(store: Store, title: str) -> FileSource:
    """Return a source of what a sidecar, and what is left of the file, give."""
    from archiver.archive.parity.reconstruct import reconstruct  # noqa: PLC0415 - only a repair pays for its codec

    def is_usable(name: str) -> bool:
        scratch = ScratchFile()
        try:
            reconstruct(store, name, scratch)
        except (ArchiverError, FileNotFoundError):
            return False
        finally:
            scratch.abort()
        return True

    def find(name: str) -> Iterator[Candidate]:
        digest = layout.digest_of(name)
        if digest is not None and store.stat(layout.parity_name(digest)) is not None:
            yield Candidate(
                f"{title}parity", lambda out: reconstruct(store, name, out), lambda: is_usable(name)
            )

    return find


def from_packs(archive: Archive, title: str) -> FileSource:
    """Return a source of manifests out of the copies that packs have of them."""

    def find(name: str) -> Iterator[Candidate]:
        document = layout.document_of(name)
        if document is None or not name.startswith(f"{layout.MANIFESTS}/"):
            return
        for snapshot in archive.snapshots(on_damage=skip_damaged):
            if snapshot.seal.manifest.blake3 == document.digest and snapshot.seal.manifest.copies:
                yield _copy_candidate(archive, snapshot, title)

    return find


def _copy_candidate(archive: Archive, snapshot: Snapshot, title: str) -> Candidate:
    def write(out: Staged) -> None:
        out.write(manifest_file(archive.manifest_copy(snapshot.seal)))

    def is_usable() -> bool:
        try:
            archive.manifest_copy(snapshot.seal)
        except ArchiverError:
            return False
        return True

    return Candidate(title, write, is_usable)


def _stored_candidate(store: Store, stored_as: str, name: str, source: str) -> Candidate:
    """Return the file stored under some name, which may be what ``name`` demands."""

    def copy(out: Staged) -> None:
        with closing(store.open(stored_as)) as reader:
            for piece in pieces(reader):
                out.write(piece)

    return Candidate(source, copy, lambda: stored_right(store, stored_as, name))


_DOCUMENT_CODES: Final = {"seal-damaged", "manifest-damaged", "event-damaged"}


class MisnamedFiles:
    """A source of files that lie under names which are not theirs, such as two that were swapped.

    What a check calls damaged may be another file, whole.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seen: dict[str, str] = {}
        """The digest that a file has -> the name that it was seen under."""

    def learn(self, check: CheckResult) -> None:
        """Note what is under the names of packs and documents that are damaged."""
        for result in check.pack_results:
            if result.blake3 not in {"", result.pack}:
                self._seen[result.blake3] = layout.pack_name(result.pack)
        for finding in check.findings:
            if finding.code in _DOCUMENT_CODES:
                digest = self._digest(finding.path, finding.path)
                if digest:
                    self._seen[digest] = finding.path

    def _digest(self, stored_as: str, name: str) -> str:
        """Return the digest of a stored file, which has or had ``name``; ``""`` if it cannot be read."""
        with (
            suppress(ArchiverError, FileNotFoundError),
            closing(self._store.open(stored_as)) as reader,
        ):
            return plain_digest(reader, name) if is_packed(name) else file_digest(reader)
        return ""

    @cached_property
    def _quarantined(self) -> dict[str, str]:
        """Documents that a run which died may have quarantined: digest -> name now. Packs are walked."""
        before = ((copy, layout.quarantined_of(copy)) for copy in quarantined_names(self._store))
        return {
            self._digest(copy, old.name): copy
            for copy, old in before
            if old is not None and not layout.pack_of(old.name)
        }

    def __call__(self, name: str) -> Iterator[Candidate]:
        """Yield the file that was seen: where it was, or where a repair has quarantined it since."""
        digest = layout.digest_of(name) or ""
        seen = self._seen.get(digest)
        copies = [copy for copy in (seen, self._quarantined.get(digest)) if copy is not None]
        copies += copies_among(quarantined_names(self._store), seen) if seen else []
        for copy in copies:
            yield _stored_candidate(self._store, copy, name, THIS_ARCHIVE)
