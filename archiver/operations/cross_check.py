"""Cross-check: compare a repository on two hubs, path by path and by digest, without fetching.

Hubs share no commits, so a pair of revisions is named. Where the digests of a file are of different kinds
(a git object id here, a SHA-256 there) they say nothing of each other; then the archive decides, if it
holds the file, for of that it has both. What came of it is journalled as evidence, if it is new.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import msgspec

from archiver.archive.decode import FileDecoder
from archiver.archive.events import CrossChecked, new_event
from archiver.archive.packs.index import ObjectIndex
from archiver.archive.vouching import Vouch, Voucher, vouches_of
from archiver.digest import git_blob_hasher
from archiver.errors import DamageError, ExitCode, skip_damaged
from archiver.tensors.weight_files import is_weights

if TYPE_CHECKING:
    from archiver.archive.archive import Archive
    from archiver.archive.records import FileFacts
    from archiver.archive.seals import Snapshot
    from archiver.progress import Progress
    from archiver.upstream.protocol import Upstream
    from archiver.upstream.remote_file import Listing, RemoteFile

Verdict = Literal["same", "differs", "only-first", "only-second", "not-comparable"]
_PATHS_KEPT: Final = 100
"""Paths that an event names; the numbers count all."""
_LARGEST_READ: Final = 64 << 20
"""Bytes of a held file that is read to have its git object id. What is not in LFS is smaller."""


class CrossCheckRequest(NamedTuple):
    """What to compare.

    Attributes:
        upstream: Lists repositories of both hubs, each at its own.
        first: A repository; its revision, None for the main branch.
        second: The other one.
    """

    upstream: Upstream
    first: tuple[str, str | None]
    second: tuple[str, str | None]


class ComparedFile(msgspec.Struct, frozen=True):
    """A path, and what came of comparing it; a size in bytes is None where it is not.

    ``held``: it was the archive that decided, for the hubs list digests of different kinds.
    """

    path: str
    verdict: Verdict
    weights: bool
    first_size: int | None = None
    second_size: int | None = None
    held: bool = False


class CrossCheckReport(msgspec.Struct, frozen=True):
    """What came of it: the two revisions, and every path of both in order.

    ``journalled``: it was not known before, and the journal has it now.
    """

    first: str
    first_revision: str
    second: str
    second_revision: str
    files: tuple[ComparedFile, ...]
    journalled: bool

    def count(self, verdict: Verdict, *, weights: bool | None = None) -> int:
        """Return how many paths came to this; of weights only, or of all else only, if that is said."""
        return sum(
            file.verdict == verdict and weights in {None, file.weights} for file in self.files
        )

    @property
    def exit_code(self) -> ExitCode:
        """``MISMATCH`` where weights differ, ``SKIPPED`` where some could not be compared."""
        verdicts = {file.verdict for file in self.files if file.weights}
        if verdicts & {"differs", "only-first", "only-second"}:
            return ExitCode.MISMATCH
        return ExitCode.SKIPPED if "not-comparable" in verdicts else ExitCode.OK


def cross_check(
    archive: Archive, request: CrossCheckRequest, progress: Progress
) -> CrossCheckReport:
    """Compare a repository on two hubs; raise as upstream does where one of them cannot list it."""
    archive.require_writable()
    first = request.upstream.list(*request.first)
    second = request.upstream.list(*request.second)
    here = {file.path: file for file in first.files}
    there = {file.path: file for file in second.files}
    paths = sorted(here.keys() | there.keys())
    progress.expect(len(paths), 0)
    held = _HeldFiles(archive, first, second)
    files = tuple(_compared(path, here.get(path), there.get(path), held) for path in paths)
    journalled = _journal(archive, first, second, files)
    return CrossCheckReport(
        first.repository, first.revision, second.repository, second.revision, files, journalled
    )


def _compared(
    path: str, here: RemoteFile | None, there: RemoteFile | None, held: _HeldFiles
) -> ComparedFile:
    by_archive = False
    verdict: Verdict
    if here is None or there is None:
        verdict = "only-second" if here is None else "only-first"
    else:
        same = _same(here, there)
        if same is None:
            same = held.same(here, there)
            by_archive = same is not None
        verdict = "not-comparable" if same is None else "same" if same else "differs"
    sizes = (here.size if here else None, there.size if there else None)
    return ComparedFile(path, verdict, is_weights(path), *sizes, by_archive)


def _same(here: RemoteFile, there: RemoteFile) -> bool | None:
    """Return whether two files are the same by what is listed; None if that does not tell."""
    if here.size != there.size:
        return False
    if here.sha256 and there.sha256:
        return here.sha256 == there.sha256
    return here.oid == there.oid if _blob(here) and _blob(there) else None


def _blob(file: RemoteFile) -> bool:
    """Return whether its git object id is that of its bytes, not of an LFS pointer."""
    return bool(file.oid) and not file.lfs


class _HeldFiles:
    """What the archive holds of the two repositories, at whatever revision: both digests of a file."""

    def __init__(self, archive: Archive, first: Listing, second: Listing) -> None:
        self._archive = archive
        self._names = (first.repository, second.repository)
        self._by_path: dict[str, list[tuple[Snapshot, FileFacts, Vouch]]] | None = None

    def same(self, here: RemoteFile, there: RemoteFile) -> bool | None:
        """Return whether a file that has a SHA-256, and one that has a git object id, are the same.

        None if the archive holds neither under that path, or one of them has no digest at all.
        """
        hashed, blob = (here, there) if here.sha256 else (there, here)
        if not hashed.sha256 or not _blob(blob):
            return None
        held = [held for held in self._held(hashed.path) if held[1].size == hashed.size]
        for _, facts, vouch in held:
            # Upstream vouched for it then, so it was computed of the bytes.
            if vouch == Vouch(Voucher.UPSTREAM, "git-sha1") and facts.oid == blob.oid:
                return facts.sha256 == hashed.sha256
        for snapshot, facts, _ in held:
            if facts.sha256 == hashed.sha256 and facts.size <= _LARGEST_READ:
                oid = self._oid(snapshot, facts)
                if oid:
                    return oid == blob.oid
        return None

    def _held(self, path: str) -> list[tuple[Snapshot, FileFacts, Vouch]]:
        if self._by_path is None:
            self._by_path = {}
            for name in self._names:
                for snapshot in self._archive.snapshots_of(name, on_damage=skip_damaged):
                    self._add(self._by_path, snapshot)
        return self._by_path.get(path, [])

    def _add(
        self, by_path: dict[str, list[tuple[Snapshot, FileFacts, Vouch]]], snapshot: Snapshot
    ) -> None:
        try:
            facts = self._archive.manifest_facts(snapshot.seal)
        except DamageError:
            return
        vouches = vouches_of(snapshot.seal, facts.source, facts.files)
        for file, vouch in zip(facts.files, vouches, strict=True):
            by_path.setdefault(file.path, []).append((snapshot, file, vouch))

    def _oid(self, snapshot: Snapshot, facts: FileFacts) -> str:
        """Return the git object id of a held file's bytes, ``""`` if they cannot be read."""
        hasher = git_blob_hasher(facts.size)
        try:
            manifest = self._archive.manifest(snapshot.seal)
            entry = next(file for file in manifest.files if file.path == facts.path)
            packs = ObjectIndex(self._archive, (pack for pack, _ in snapshot.seal.packs))
            with FileDecoder(packs, workers=1) as decoder:
                for piece in decoder.pieces(iter(entry.segments)):
                    hasher.update(piece)
        except DamageError:
            return ""
        return hasher.hexdigest()


def _journal(
    archive: Archive, first: Listing, second: Listing, files: tuple[ComparedFile, ...]
) -> bool:
    """Journal what came of it, unless the newest event of these two repositories says just that."""
    counts = Counter(file.verdict for file in files)
    # Weights first: of those every path should be named.
    different = sorted(
        (file for file in files if file.verdict in {"differs", "only-first", "only-second"}),
        key=lambda file: (not file.weights, file.path),
    )
    detail = CrossChecked(
        upstream=first.endpoint,
        other=second.repository,
        other_revision=second.revision,
        other_upstream=second.endpoint,
        same=counts["same"],
        differs=counts["differs"],
        only_here=counts["only-first"],
        only_there=counts["only-second"],
        not_comparable=counts["not-comparable"],
        weights=sum(file.weights for file in different),
        paths=tuple(file.path for file in different[:_PATHS_KEPT]),
    )
    newest = None
    for _, event in archive.events(on_damage=skip_damaged):
        compared = event.detail
        if (
            isinstance(compared, CrossChecked)
            and (event.repository, compared.other) == (first.repository, second.repository)
            and (newest is None or event.time >= newest.time)
        ):
            newest = event
    if newest and (newest.revision, newest.detail) == (first.revision, detail):
        return False
    archive.record(new_event(detail, first.repository, first.revision))
    return True
