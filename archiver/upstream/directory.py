"""Repositories from a disk: a plain folder, or a hub client's cache.

Whether something is a cache, which repositories it holds and what their digests are is told in
:mod:`archiver.upstream.hub_cache`; this file walks folders and reads files.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from archiver.errors import UpstreamGoneError, UsageError
from archiver.names import as_repo_id, check_paths
from archiver.text import printable
from archiver.upstream.folder import FileReader, real_file, walk
from archiver.upstream.hub_cache import CacheEntry, entries, entry_of
from archiver.upstream.protocol import Listing, RemoteFile

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

_MAIN = "main"
_NOT_IN_NAME = re.compile(r"[^A-Za-z0-9_.]+")
_RUNS = re.compile(r"\.{2,}")


class Directory:
    """An upstream that lies on a disk. Nothing in it is ever written.

    Args:
        folder: A plain folder, a cache entry (``models--org--name``), one snapshot in it
            (``models--org--name/snapshots/<commit>``), or a whole hub cache.
        repository: What a plain folder's repository is called; default ``local/<folder's name>``.
            For a cache, whose layout names the repositories, it picks one of them.

    Of a plain folder everything is listed but ``.git/`` and ``.cache/huggingface/`` (a hub client's
    notes) at its top. Raises UpstreamGoneError if there is no such folder.
    """

    def __init__(self, folder: str | os.PathLike[str], repository: str | None = None) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise UpstreamGoneError(f"There is no folder {printable(str(folder))}.")
        self.folder = self.folder.resolve()
        self._roots: tuple[Path, ...] = (self.folder,)
        found = entry_of(self.folder)
        self._entries = [found] if found else entries(self.folder)
        self._own_name = repository or _default_name(self.folder)
        as_repo_id(self._own_name)
        if self._entries and repository:
            self._entries = [self._entry(repository)]

    def repositories(self) -> tuple[str, ...]:
        """The repositories that can be listed; exactly one unless the folder is a hub cache."""
        return tuple(entry.repository for entry in self._entries) or (self._own_name,)

    def list(self, repository: str, revision: str | None = None) -> Listing:
        """What lies on the disk, as a listing.

        A cache's listing is pinned to the commit that ``revision`` (default ``main``) names in it,
        and takes upstream's digests from the cache's blob names. Where the cache kept the commit's
        tree, files that were never downloaded are listed too, so that a partial cache cannot pass
        for a whole revision: opening one of them raises UpstreamGoneError.

        Raises:
            UpstreamGoneError: No such repository or revision here.
            UsageError: Names every link that leads outside, socket, device and the like.
            HostileNameError: A name on the disk may not be written elsewhere.
        """
        if self._entries:
            return _cached(self._entry(repository), revision)
        if repository.casefold() != self._own_name.casefold():
            raise self._no_such(repository)
        if revision not in {None, "", _MAIN}:
            raise UpstreamGoneError(
                f"The plain folder {self._shown} has no revision {printable(revision or '')}.",
                hint="Leave the revision out.",
            )
        found = walk(self.folder, self._roots)
        if not found:
            raise UsageError(
                f"{self._shown} holds no files: there is nothing to import.",
                hint="Check the path; if it is a disk, is it mounted?",
            )
        files = tuple(RemoteFile(path, size) for path, (_, size) in sorted(found.items()))
        check_paths(file.path for file in files)
        return Listing("directory", "", self._own_name, "", _MAIN, files)

    @contextmanager
    def open(self, listing: Listing, file: RemoteFile, offset: int = 0) -> Iterator[FileReader]:
        """The bytes of ``file`` from ``offset`` on; UpstreamGoneError if it changes meanwhile."""
        folder, roots = self.folder, self._roots
        if self._entries:
            entry = self._entry(listing.repository)
            folder, roots = entry.snapshot(listing.revision), entry.roots(listing.revision)
        reader = FileReader(real_file(folder, file.path, roots), file, offset)
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
            f"{self._shown} does not hold {printable(repository)}.", hint=f"It holds {held}."
        )

    @property
    def _shown(self) -> str:
        return printable(str(self.folder))


def _cached(entry: CacheEntry, revision: str | None) -> Listing:
    commit = entry.commit(revision)
    files = tuple(sorted(entry.files(commit), key=lambda file: file.path))
    check_paths(file.path for file in files)
    return Listing("directory", "", entry.repository, commit, revision or _MAIN, files)


def _default_name(folder: Path) -> str:
    name = _RUNS.sub(".", _NOT_IN_NAME.sub("-", folder.name))[:96].strip("-.")
    return "local/" + (name.removesuffix(".git") or "folder")
