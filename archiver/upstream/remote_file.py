"""What an upstream says of a revision: its files, each with what is claimed of it."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from archiver.tensors.weight_files import StandIn


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


LeftOutKind = Literal["unfinished", "tool", "system", "unlisted"]
"""What was left out of a folder: a download that did not end, a downloader's or git's notes, what an
operating system writes into every folder, or a file that the record of the commit does not list."""


class LeftOut(msgspec.Struct, frozen=True, order=True):
    """What is no content: a file, or a folder (its path ends with ``/``) with all that lies in it."""

    path: str
    kind: LeftOutKind


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
