"""Repositories from a local disk: a plain folder, or a hub client's cache.

Whether something is a cache, which repositories it holds and what their digests are is the business of
:mod:`archiver.upstream.hub_cache`; what lies in a directory, and what of it is content, of
:mod:`archiver.upstream.directory`. This module makes listings of both.
"""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from archiver.archive.vouching import DIRECTORY
from archiver.errors import UpstreamGoneError, UsageError
from archiver.names import FOLDER, TYPES, RepoId, as_repo_id, check_paths, repo_id_of
from archiver.tensors.weight_files import HEAD, may_be_stand_in, stand_in
from archiver.text import printable
from archiver.upstream.directory import (
    FileReader,
    find_file,
    read_beginning,
    refusal,
    unfinished_files,
)
from archiver.upstream.hub_cache import (
    CachedRepository,
    RepositoryType,
    blobs_of,
    cache_inside,
    cached_repositories,
    cached_repository,
    scan_snapshot,
)
from archiver.upstream.remote_file import Listing, RemoteFile, Unfit

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from archiver.upstream.directory import DirectoryScan

_MAIN = "main"
_NOT_IN_NAME = re.compile(r"[^A-Za-z0-9_.]+")
_DOTS = re.compile(r"\.{2,}")


class SkippedRepository(msgspec.Struct, frozen=True):
    """A repository of a cache that is not taken in: a space, or one without a revision."""

    repository: str
    type: RepositoryType


class LocalUpstream:
    """An upstream that lies on a disk. Nothing in it is ever written.

    Args:
        folder: A plain folder, a cache's repository (``models--org--name``), one snapshot in it
            (``models--org--name/snapshots/<commit>``), or a whole hub cache.
        repository: What a plain folder's repository is called; default ``folder:<folder's name>``.
            For a cache, whose layout names the repositories, it picks one of them.

    Of a plain folder everything is listed but what programs left there, which the listing names.
    Raise UpstreamGoneError if there is no such folder.

    Attributes:
        skipped: The cache's spaces, and models and datasets without a revision.
    """

    endpoint: Final = ""
    read_ahead: Final = 0

    def __init__(self, folder: str | os.PathLike[str], repository: str | None = None) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise UpstreamGoneError(f"There is no folder {printable(str(folder))}.")
        self.folder = self.folder.resolve()
        pointed_at = cached_repository(self.folder)
        cached = [pointed_at] if pointed_at else cached_repositories(self.folder)
        self._is_cache = bool(cached)
        # One that was pointed at is not skipped for want of a revision: listing it says what is wrong.
        self._cached = [
            entry for entry in cached if entry.type in TYPES and (pointed_at or entry.commits)
        ]
        self.skipped = tuple(
            SkippedRepository(entry.repository, entry.type)
            for entry in cached
            if entry not in self._cached
        )
        self._own_name = as_repo_id(repository) if repository else _default_name(self.folder)
        if self._is_cache and repository:
            self._cached, self.skipped = [self._repository(self._own_name)], ()

    @property
    def lists_digests(self) -> bool:
        """Whether listings have digests: a cache's have, a plain folder's never."""
        return self._is_cache

    def repositories(self) -> tuple[str, ...]:
        """Return the repositories that can be listed; exactly one unless the folder is a hub cache."""
        if self._is_cache:
            return tuple(cached.repository for cached in self._cached)
        return (self._own_name,)

    def list(self, repository: str, revision: str | None = None) -> Listing:
        """Return what lies on the disk, as a listing.

        A cache's listing is pinned to the commit that ``revision`` (default ``main``) names in it,
        and takes upstream's digests from the cache's blob names. Where the cache kept the commit's
        tree, that is what the revision is: files that were never downloaded are listed too, so that a
        partial cache cannot pass for a whole revision (opening one of them raises UpstreamGoneError),
        and what it does not list is left out. Without it the listing is not ``complete``.

        Raises:
            UpstreamGoneError: No such repository or revision here.
            UsageError: Names every link that leads outside, socket, device and the like.
            HostileNameError: A name on the disk may not be written elsewhere.
        """
        if self._is_cache:
            return _cached_listing(self._repository(repository), revision)
        if repository.casefold() != self._own_name.casefold():
            raise self._no_such(repository)
        if revision not in {None, "", _MAIN}:
            raise UpstreamGoneError(
                f"The plain folder {self._shown} has no revision {printable(revision or '')}.",
                hint="Leave the revision out.",
            )
        return _plain_listing(self.folder, self._own_name)

    @contextmanager
    def open(self, listing: Listing, file: RemoteFile, offset: int = 0) -> Iterator[FileReader]:
        """Yield the bytes of ``file`` from ``offset`` on.

        Raise UpstreamGoneError if it changes meanwhile, MismatchError if a cache's record tells
        another size than it has.
        """
        folder = self.folder
        if self._is_cache:
            folder = self._repository(listing.repository).snapshot(listing.revision)
        # Looked up anew: since the listing a link may have been put in its place.
        where = find_file(folder, file.path, blobs_of(folder))
        reader = FileReader(where, file, offset, recorded=self._is_cache and listing.complete)
        try:
            yield reader
        finally:
            reader.close()

    def _repository(self, repository: str) -> CachedRepository:
        for cached in self._cached:
            if cached.repository.casefold() == repository.casefold():
                return cached
        raise self._no_such(repository)

    def _no_such(self, repository: str) -> UpstreamGoneError:
        held = ", ".join(self.repositories()[:5])
        return UpstreamGoneError(
            f"{self._shown} does not hold {printable(repository)}.",
            hint=f"It holds {held or 'neither a model nor a dataset'}.",
        )

    @property
    def _shown(self) -> str:
        return printable(str(self.folder))


def _plain_listing(folder: Path, name: str) -> Listing:
    whole = scan_snapshot(folder)
    scan = whole.content()
    shown = printable(str(folder))
    caches = sorted({inside for path in scan.files if (inside := cache_inside(path))})
    if caches:
        first = printable(caches[0])
        raise UsageError(
            f"{shown} holds a hub client's cache in {first}, where files lie twice.",
            hint="Import the folder that holds the models--… folders, or one of these, by its own path.",
        )
    _require_files(folder, scan)
    if not scan.files:
        besides = f" but {len(scan.left_out):,} that are no content" if scan.left_out else ""
        raise UsageError(
            f"{shown} holds no files{besides}: there is nothing to import.",
            hint="Check the path; if it is a disk, is it mounted?",
        )
    files = tuple(
        RemoteFile(path, os.stat(where).st_size)  # noqa: PTH116 - names may not be text
        for path, where in sorted(scan.files.items())
    )
    check_paths((file.path for file in files), folder=str(folder))
    return Listing(
        DIRECTORY,
        "",
        name,
        "",
        _MAIN,
        files,
        left_out=tuple(scan.left_out),
        unfit=_unfit(whole, scan, files),
    )


def _cached_listing(cached: CachedRepository, revision: str | None) -> Listing:
    commit = cached.commit(revision)
    folder, record = cached.snapshot(commit), cached.record(commit)
    whole = scan_snapshot(folder)
    scan = whole.content(record)
    _require_files(folder, scan)
    if record is not None:
        listed = list(record.values())
    else:
        listed = [
            cached.claim(commit, path, os.stat(where).st_size)  # noqa: PTH116 - as above
            for path, where in scan.files.items()
        ]
    files = tuple(sorted(listed, key=lambda file: file.path))
    check_paths((file.path for file in files), folder=str(folder))
    return Listing(
        DIRECTORY,
        "",
        cached.repository,
        commit,
        revision or _MAIN,
        files,
        complete=record is not None,
        left_out=tuple(scan.left_out),
        unfit=_unfit(whole, scan, files),
    )


def _require_files(folder: Path, scan: DirectoryScan) -> None:
    problems = list(scan.problems())
    if problems:
        raise refusal(str(folder), problems)


def _unfit(
    whole: DirectoryScan, scan: DirectoryScan, files: Iterable[RemoteFile]
) -> tuple[Unfit, ...]:
    """Return files without a digest that are plainly half, or something else in the place of weights."""
    sizes = {file.path: file.size for file in files if not file.sha256 and not file.oid}
    # The control files are no content, so they are in the whole scan only.
    controls = unfinished_files(whole.files, lambda path: sizes.get(path, 1))
    unfit = [Unfit(path, control=controls[path]) for path in sizes if path in controls]
    for path, size in sizes.items():
        if path not in controls and may_be_stand_in(path, size):
            # One that cannot be read is no stand-in; taking it in says why it cannot.
            instead = stand_in(path, read_beginning(scan.files[path], HEAD), size)
            unfit += [Unfit(path, instead=instead)] if instead else []
    return tuple(sorted(unfit, key=lambda file: file.path))


def _default_name(folder: Path) -> RepoId:
    name = _DOTS.sub(".", _NOT_IN_NAME.sub("-", folder.name))[:96].strip("-.")
    return repo_id_of(name.removesuffix(".git") or "folder", hub=FOLDER)
