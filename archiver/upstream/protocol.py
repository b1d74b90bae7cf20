"""What archiver asks of an upstream: a listing pinned to a revision, and streams of its files."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

from archiver.digest import is_git_oid

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from contextlib import AbstractContextManager

    from archiver.archive.watch import RepositoryState
    from archiver.upstream.remote_file import Listing, RemoteFile


class ByteStream(Protocol):
    """A file's bytes, in order, from the offset that was asked for."""

    def readinto(self, buffer: memoryview) -> int:
        """Put the next bytes into ``buffer`` and return how many, 0 at the end of the file.

        Retry and resume as upstream's rules allow; raise NetworkError when it gave
        up, UpstreamGoneError when the file is gone or is no longer the one that was listed,
        MismatchError when upstream sends fewer or more bytes than it listed.
        """


class Upstream(Protocol):
    """Where repositories come from."""

    @property
    def endpoint(self) -> str:
        """Its address; ``""`` for a folder, from which nothing can be lost upstream."""

    @property
    def read_ahead(self) -> int:
        """The bytes that its streams hold together at most, beside the buffers of whoever reads."""

    def list(self, repository: str, revision: str | None = None) -> Listing:
        """Pin ``revision`` (default: the main branch) to a commit and list its files.

        Raise UpstreamGoneError, AccessError, NetworkError, or HostileNameError for a listing whose
        paths could not be written to a disk.
        """

    def open(
        self, listing: Listing, file: RemoteFile, offset: int = 0
    ) -> AbstractContextManager[ByteStream]:
        """Return the bytes of ``file`` from ``offset`` on."""


class KnownCommit(NamedTuple):
    """A commit, and when it was made; ``""`` if that is not told."""

    id: str
    time: str = ""


def distinct_commits(commits: Iterable[KnownCommit]) -> tuple[KnownCommit, ...]:
    """Return each commit once, as it comes first, without what is none."""
    known: dict[str, KnownCommit] = {}
    for commit in commits:
        if is_git_oid(commit.id):
            known.setdefault(commit.id, commit)
    return tuple(known.values())


@runtime_checkable
class ListsCommits(Protocol):
    """An upstream that can say which commits a repository has."""

    def commits(self, repository: str) -> Sequence[KnownCommit]:
        """Return the newest commits of the main branch, and those of the other branches and of tags.

        They are as many as one page has. Raise as `Upstream.list`.
        """


class WatchedUpstream(Upstream, Protocol):
    """An upstream that can be looked at without fetching anything."""

    @property
    def requests(self) -> int:
        """How many requests it has sent so far, those of redirects and of further attempts included."""

    def look(self, repository: str) -> RepositoryState:
        """Return what upstream says of a repository, by two requests: its description and its refs.

        A repository that was renamed is found under its new name, by one request more.

        Raise UpstreamGoneError, with its ``status``, where it is not shown: also of a private one, and
        where upstream answers a token that has expired so. Raise AccessError where it is refused by
        name, NetworkError, and HostileNameError or MismatchError for an answer without sense.
        """

    def has_commit(self, repository: str, commit: str) -> bool:
        """Return whether upstream still has a commit of a repository that it shows. Raise as `look`."""

    def follows(self, repository: str, commit: str, earlier: str) -> bool | None:
        """Return whether ``earlier`` is among the commits that lead to ``commit``.

        None where the list of these is longer than is read. Raise as `look`.
        """

    def control(self) -> str:
        """Ask for something that upstream shows to everybody who may ask at all; return what that was.

        ``""`` if it has nothing of that kind.

        Raise TokenError where even that is refused, as to a token that has expired, or NetworkError.
        """
