"""What the listings of all hubs have in common: JSON that is decoded strictly, files that are collected.

What upstream may make us keep is bounded here.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeVar

import msgspec

from archiver.archive.records import FILES_MAX
from archiver.errors import ArchiverError, MismatchError, NetworkError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from archiver.upstream.http import Subject
    from archiver.upstream.remote_file import RemoteFile

LARGEST_FILE = 2**53
"""Bytes of a file at most."""
_MOST_ENTRIES = 1_000_000
_MOST_PATH_BYTES = 32 * 1024 * 1024
_MOST_PAGES = 5_000
_LARGEST_SEARCHED = 16 * 1024 * 1024
_SURROGATES = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
"""Escapes of JSON; the group is a surrogate without its other half, which is no character."""

Document = TypeVar("Document")


def decoded(
    body: bytes | bytearray, kind: type[Document], subject: Subject, nonsense: ArchiverError
) -> Document:
    """Return the document in ``body``; raise a bare DecodeError if half characters are what is wrong.

    Raise ``nonsense`` for JSON of another shape, and NetworkError for what is no JSON: that was not sent by
    a hub.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise nonsense from error
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        small = len(body) <= _LARGEST_SEARCHED
        halves = small and any(match[1] for match in _SURROGATES.finditer(body))
        if halves and isinstance(error, msgspec.DecodeError):
            raise
        raise NetworkError(
            f"The answer about {subject} is no JSON: {type(error).__name__}.",
            hint=f"Check that {subject.variable} is a hub and that no proxy stands in between.",
        ) from error


def whole_characters(body: bytes | bytearray) -> bytearray:
    """Return ``body`` with a question mark for each surrogate without its other half."""
    whole = bytearray(body)
    for match in _SURROGATES.finditer(body):
        if match[1]:
            whole[match.start() : match.end()] = b"\\u003f"  # as long as what it replaces
    return whole


class FileCollection:
    """The files of a commit, collected page by page.

    Entries, files, bytes of their paths and pages are bounded. A path that came before, and a page that
    came before, end the collection.
    """

    def __init__(self, subject: Subject) -> None:
        self.files: list[RemoteFile] = []
        self.subject = subject
        self._entries = 0
        self._path_bytes = 0
        self._paths: set[str] = set()
        self._pages: set[str] = set()

    def begin(self, url: str) -> None:
        """Note that the page at ``url`` is asked for.

        Raise NetworkError if it was before, MismatchError if there are more pages than may be.
        """
        if url in self._pages:
            raise NetworkError(
                f"The hub's listing of {self.subject} leads back to a page that it had before."
            )
        self._pages.add(url)
        self._require(len(self._pages), _MOST_PAGES, "pages")

    def take(self, files: Iterable[RemoteFile], *, folders: int = 0) -> bool:
        """Take a page's files in and return whether the next page is worth asking for.

        Raise MismatchError if the listing is larger than any may be; ``folders`` count as entries.
        """
        fresh = True
        self._entries += folders
        for file in files:
            self._entries += 1
            fresh = fresh and file.path not in self._paths
            self._paths.add(file.path)
            self._path_bytes += len(file.path)
            self.files.append(file)
        self._require(self._entries, _MOST_ENTRIES, "entries")
        self._require(len(self.files), FILES_MAX, "files")
        self._require(self._path_bytes, _MOST_PATH_BYTES, "bytes of paths")
        return fresh

    def _require(self, count: int, most: int, noun: str) -> None:
        if count > most:
            raise MismatchError(
                f"The hub's listing of {self.subject} has more than {most:,} {noun}; "
                "no snapshot may.",
                hint=f"Nothing was fetched. Check that {self.subject.variable} is a hub.",
            )
