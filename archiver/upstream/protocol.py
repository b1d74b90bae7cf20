"""What archiver asks of an upstream: a listing pinned to a revision, and streams of its files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

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
