"""Repositories from a disk: a plain folder, or a hub client's cache.

Whether something is a cache, which repositories it holds and what their digests are is told in
:mod:`archiver.upstream.hub_cache`; what lies in a folder, and what of it is content, in
:mod:`archiver.upstream.folder`. This file makes listings of both.
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
from archiver.names import as_repo_id, check_paths
from archiver.tensors.weight_files import HEAD, may_be_stand_in, stand_in
from archiver.text import printable
from archiver.upstream.folder import FileReader, find_file, refusal, unfinished_files
from archiver.upstream.hub_cache import (
    CacheEntry,
    EntryType,
    blobs_of,
    cache_inside,
    entries,
    entry_of,
    scan_snapshot,
)
from archiver.upstream.protocol import Listing, RemoteFile, Unfit

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from archiver.upstream.folder import FolderScan

_MAIN = "main"
_NOT_IN_NAME = re.compile(r"[^A-Za-z0-9_.]+")
_RUNS = re.compile(r"\.{2,}")


class SkippedRepository(msgspec.Struct, frozen=True):
    """A repository of a cache that is not taken in: no model, or one without a revision."""

    repository: str
    type: EntryType


class Directory:
    """An upstream that lies on a disk. Nothing in it is ever written.

    Args:
        folder: A plain folder, a cache entry (``models--org--name``), one snapshot in it
            (``models--org--name/snapshots/<commit>``), or a whole hub cache.
        repository: What a plain folder's repository is called; default ``local/<folder's name>``.
            For a cache, whose layout names the repositories, it picks one of them.

    Of a plain folder everything is listed but what programs left there, which the listing names.
    Raises UpstreamGoneError if there is no such folder.

    Attributes:
        skipped: The cache's datasets, spaces, and models without a revision.
    """

    endpoint: Final = ""

    def __init__(self, folder: str | os.PathLike[str], repository: str | None = None) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise UpstreamGoneError(f"There is no folder {printable(str(folder))}.")
        self.folder = self.folder.resolve()
        own = entry_of(self.folder)
        known = [own] if own else entries(self.folder)
        self._is_cache = bool(known)
        self._entries = [one for one in known if one.type == "model" and (own or one.commits)]
        self.skipped = tuple(
            SkippedRepository(one.repository, one.type) for one in known if one not in self._entries
        )
        self._own_name = repository or _default_name(self.folder)
        as_repo_id(self._own_name)
        if self._is_cache and repository:
            self._entries, self.skipped = [self._entry(repository)], ()

    def repositories(self) -> tuple[str, ...]:
        """The repositories that can be listed; exactly one unless the folder is a hub cache."""
        if self._is_cache:
            return tuple(entry.repository for entry in self._entries)
        return (self._own_name,)

    def list(self, repository: str, revision: str | None = None) -> Listing:
        """What lies on the disk, as a listing.

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
            return _cached(self._entry(repository), revision)
        if repository.casefold() != self._own_name.casefold():
            raise self._no_such(repository)
        if revision not in {None, "", _MAIN}:
            raise UpstreamGoneError(
                f"The plain folder {self._shown} has no revision {printable(revision or '')}.",
                hint="Leave the revision out.",
            )
        return _plain(self.folder, self._own_name)

    @contextmanager
    def open(self, listing: Listing, file: RemoteFile, offset: int = 0) -> Iterator[FileReader]:
        """The bytes of ``file`` from ``offset`` on.

        Raises UpstreamGoneError if it changes meanwhile, MismatchError if a cache's record tells
        another size than it has.
        """
        folder = self.folder
        if self._is_cache:
            folder = self._entry(listing.repository).snapshot(listing.revision)
        where = find_file(folder, file.path, blobs_of(folder))
        reader = FileReader(where, file, offset, recorded=self._is_cache and listing.complete)
        try:
            yield reader
        finally:
            reader.close()

    def _entry(self, repository: str) -> CacheEntry:
        for entry in self._entries:
            if entry.repository.casefold() == repository.casefold():
                return entry
        raise self._no_such(repository)

    def _no_such(self, repository: str) -> UpstreamGoneError:
        held = ", ".join(self.repositories()[:5])
        return UpstreamGoneError(
            f"{self._shown} does not hold {printable(repository)}.",
            hint=f"It holds {held or 'no model'}.",
        )

    @property
    def _shown(self) -> str:
        return printable(str(self.folder))


def _plain(folder: Path, name: str) -> Listing:
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


def _cached(entry: CacheEntry, revision: str | None) -> Listing:
    commit = entry.commit(revision)
    folder, record = entry.snapshot(commit), entry.record(commit)
    whole = scan_snapshot(folder)
    scan = whole.content(record)
    _require_files(folder, scan)
    if record is not None:
        listed = list(record.values())
    else:
        listed = [
            entry.claim(commit, path, os.stat(where).st_size)  # noqa: PTH116 - as above
            for path, where in scan.files.items()
        ]
    files = tuple(sorted(listed, key=lambda file: file.path))
    check_paths((file.path for file in files), folder=str(folder))
    return Listing(
        DIRECTORY,
        "",
        entry.repository,
        commit,
        revision or _MAIN,
        files,
        complete=record is not None,
        left_out=tuple(scan.left_out),
        unfit=_unfit(whole, scan, files),
    )


def _require_files(folder: Path, scan: FolderScan) -> None:
    problems = list(scan.problems())
    if problems:
        raise refusal(str(folder), problems)


def _unfit(whole: FolderScan, scan: FolderScan, files: Iterable[RemoteFile]) -> tuple[Unfit, ...]:
    """Files without a digest that are plainly half, or something else in the place of weights."""
    sizes = {file.path: file.size for file in files if not file.sha256 and not file.oid}
    half = unfinished_files(whole.files, lambda path: sizes.get(path, 1))
    found = [Unfit(path, control=half[path]) for path in sizes if path in half]
    for path, size in sizes.items():
        if path not in half and may_be_stand_in(path, size):
            instead = stand_in(path, _head(scan.files[path]), size)
            found += [Unfit(path, instead=instead)] if instead else []
    return tuple(sorted(found, key=lambda one: one.path))


def _head(where: str) -> bytes:
    """The first bytes of a file; none if it cannot be read, which is told when it is taken in."""
    try:
        handle = os.open(where, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return b""
    try:
        return os.read(handle, HEAD)
    except OSError:
        return b""
    finally:
        os.close(handle)


def _default_name(folder: Path) -> str:
    name = _RUNS.sub(".", _NOT_IN_NAME.sub("-", folder.name))[:96].strip("-.")
    return "local/" + (name.removesuffix(".git") or "folder")
