"""What archiver asks of an upstream: a listing pinned to a revision, and streams of its files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol

import msgspec

from archiver.tensors.weight_files import StandIn

if TYPE_CHECKING:
    from contextlib import AbstractContextManager


class RemoteFile(msgspec.Struct, frozen=True):
    """A file as upstream lists it: a claim, to be checked against the bytes.

    ``sha256`` is upstream's digest of an LFS file's content, ``""`` if it has none; ``oid`` is the
    git object id (of the blob, or of the LFS pointer), ``""`` if unknown; ``size`` is in bytes.
    """

    path: str
    size: int
    sha256: str = ""
    oid: str = ""
    lfs: bool = False


ForeignKind = Literal["unfinished", "tool", "system", "unlisted"]
"""What was left out of a folder: a download that did not end, a downloader's or git's notes, what an
operating system writes into every folder, or a file that the record of the commit does not list."""


class LeftOut(msgspec.Struct, frozen=True, order=True):
    """What is no content: a file, or a folder (its path ends with ``/``) with all that lies in it."""

    path: str
    kind: ForeignKind


class Unfit(msgspec.Struct, frozen=True):
    """A file that nobody vouches for, and that is plainly not what its name says.

    Its download did not end, as the control file ``control`` says; or it is ``instead`` of weights.
    """

    path: str
    control: str = ""
    instead: StandIn | None = None


class Listing(msgspec.Struct, frozen=True):
    """A repository at one revision, as upstream describes it.

    ``revision`` is the commit, or ``""`` where upstream has none (a plain directory: it is then
    derived from the files' digests). ``name`` is what was asked for (``main``, a tag, a commit).

    Of folders: ``complete`` is false where nobody knows which files the revision has (a cache without
    its record); ``left_out`` is what lies there and is no content; ``unfit`` are listed files that
    must not be taken in.
    """

    upstream: str
    endpoint: str
    repository: str
    revision: str
    name: str
    files: tuple[RemoteFile, ...]
    id: str = ""
    committed: str = ""
    licence: str = ""
    card: dict[str, Any] = {}
    complete: bool = True
    left_out: tuple[LeftOut, ...] = ()
    unfit: tuple[Unfit, ...] = ()


class ByteStream(Protocol):
    """A file's bytes, in order, from the offset that was asked for."""

    def readinto(self, buffer: memoryview) -> int:
        """Put the next bytes into ``buffer``; how many, 0 at the end of the file.

        Retries and resumes by itself as upstream's rules allow; raises NetworkError when it gave
        up, UpstreamGoneError when the file is gone or is no longer the one that was listed,
        MismatchError when upstream sends fewer or more bytes than it listed.
        """


class Upstream(Protocol):
    """Where repositories come from."""

    @property
    def endpoint(self) -> str:
        """Its address; ``""`` for a folder, from which nothing can be lost upstream."""

    def list(self, repository: str, revision: str | None = None) -> Listing:
        """Pin ``revision`` (default: the main branch) to a commit and list its files.

        Raises UpstreamGoneError, AccessError, NetworkError, or HostileNameError for a listing whose
        paths could not be written to a disk.
        """

    def open(
        self, listing: Listing, file: RemoteFile, offset: int = 0
    ) -> AbstractContextManager[ByteStream]:
        """The bytes of ``file`` from ``offset`` on."""
