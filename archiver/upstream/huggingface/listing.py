"""From the hub's descriptions of a repository to a :class:`Listing`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from archiver.archive.records import FILES_MAX
from archiver.digest import is_git_oid, is_sha256
from archiver.errors import (
    HostileNameError,
    MismatchError,
    NetworkError,
    RenamedError,
    UsageError,
)
from archiver.names import as_commit, as_repo_id
from archiver.text import printable
from archiver.upstream.huggingface.answers import Asked, disabled, gated
from archiver.upstream.huggingface.parsing import (
    InfoDocument,
    TreeEntry,
    card_of,
    licence_of,
    time_of,
)
from archiver.upstream.remote_file import RemoteFile

if TYPE_CHECKING:
    from collections.abc import Iterable

_INTERNAL_ID = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
_LARGEST_FILE = 2**53
_MOST_ENTRIES = 1_000_000
_MOST_PATH_BYTES = 32 * 1024 * 1024
_MOST_PAGES = 5_000


@dataclass(frozen=True)
class Pin:
    """A repository's description at one commit."""

    repository: str
    commit: str
    id: str
    committed: str
    licence: str
    card: dict[str, Any]


def pin(info: InfoDocument, asked: Asked) -> Pin:
    """Read the hub's description of a repository.

    Raises:
        AccessError: The repository is disabled.
        RenamedError: It has another name now.
        MismatchError: The answer is about another commit.
        HostileNameError: The answer is no description of a repository.
    """
    if info.disabled:
        raise disabled(asked)
    card = card_of(info)
    return Pin(
        repository=_name(info, asked),
        commit=_commit(info, asked),
        id=_internal_id(info, asked),
        committed=time_of(info.modified),
        licence=licence_of(card),
        card=card,
    )


def repository_name(text: str | None) -> str:
    """A repository's name that the hub sent; raises HostileNameError if it is none."""
    try:
        return as_repo_id(text or "")
    except UsageError as error:
        raise HostileNameError(f"From the hub: {error.message}") from error


def _name(info: InfoDocument, asked: Asked) -> str:
    name = repository_name(info.id or info.model_id)
    if name.casefold() != asked.repository.casefold():
        raise RenamedError(
            f"{printable(asked.repository)} is called {name} now.",
            hint=f"Mirror {name} instead; what the archive holds under the old name stays.",
        )
    return name


def _commit(info: InfoDocument, asked: Asked) -> str:
    commit = as_commit(str(info.sha))
    if is_git_oid(asked.revision) and asked.revision != commit:
        # Not "gone": a hub, or what stands before it, that answers something else says nothing of that.
        raise MismatchError(
            f"Asked for {asked}, the hub answered about commit {commit}.",
            hint="Run the command again later. If it stays so, look at what stands between this machine "
            "and the hub, such as a proxy or another HF_ENDPOINT.",
        )
    return commit


def _internal_id(info: InfoDocument, asked: Asked) -> str:
    if info.internal_id and not _INTERNAL_ID.match(info.internal_id):
        raise HostileNameError(f"The hub's own id of {asked} is no id of a hub.")
    return info.internal_id or ""


class Tree:
    """The files of a commit, collected page by page.

    What upstream may make us keep is bounded: entries, files, bytes of their paths, pages. A path
    that came before, and a page that came before, end the collection.
    """

    def __init__(self, asked: Asked) -> None:
        self.files: list[RemoteFile] = []
        self._asked = asked
        self._entries = 0
        self._path_bytes = 0
        self._paths: set[str] = set()
        self._pages: set[str] = set()

    def begin(self, url: str) -> None:
        """Note that the page at ``url`` is asked for.

        Raises NetworkError if it was before, MismatchError if there are more pages than may be.
        """
        if url in self._pages:
            raise NetworkError(
                f"The hub's listing of {self._asked} leads back to a page that it had before."
            )
        self._pages.add(url)
        self._require(len(self._pages), _MOST_PAGES, "pages")

    def add(self, page: Iterable[TreeEntry]) -> bool:
        """Take a page's files in; whether the next page is worth asking for.

        Raises:
            AccessError: The hub hides digests, as it does for a gated repository.
            MismatchError: A file has no size or no digest that it could be checked by, or the
                listing is larger than any may be.
        """
        fresh = True
        for entry in page:
            if _hidden(entry):
                raise gated(self._asked)
            self._entries += 1
            if entry.type == "directory":
                continue
            fresh = fresh and entry.path not in self._paths
            self._paths.add(entry.path)
            self._path_bytes += len(entry.path)
            self.files.append(_remote(entry, self._asked))
        self._require(self._entries, _MOST_ENTRIES, "entries")
        self._require(len(self.files), FILES_MAX, "files")
        self._require(self._path_bytes, _MOST_PATH_BYTES, "bytes of paths")
        return fresh

    def _require(self, count: int, most: int, noun: str) -> None:
        if count > most:
            raise MismatchError(
                f"The hub's listing of {self._asked} has more than {most:,} {noun}; "
                "no snapshot may.",
                hint="Nothing was fetched. Check that HF_ENDPOINT is a hub.",
            )


def _hidden(entry: TreeEntry) -> bool:
    oids = (entry.lfs.oid if entry.lfs else "", entry.oid)
    return any(oid and not oid.strip("*") for oid in oids)


def _remote(entry: TreeEntry, asked: Asked) -> RemoteFile:
    lfs = entry.lfs
    size, sha256 = (lfs.size, lfs.oid) if lfs else (entry.size, "")
    name = printable(entry.path) or "a file without a name"
    if not 0 <= size <= _LARGEST_FILE:
        raise MismatchError(
            f"Upstream lists {name} of {asked} without a size that a file can have."
        )
    if not is_git_oid(entry.oid) or (lfs and not is_sha256(sha256)):
        raise MismatchError(f"Upstream lists {name} of {asked} without a digest.")
    return RemoteFile(entry.path, size, sha256, entry.oid, lfs=bool(lfs))
