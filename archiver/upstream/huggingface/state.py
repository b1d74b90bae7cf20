"""What the hub says of a repository without listing its tree: its description and its refs, bounded.

Both become a :class:`~archiver.archive.watch.RepositoryState`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from archiver.archive.records import FILES_MAX
from archiver.archive.watch import RepositoryState, UpstreamFile
from archiver.digest import is_git_oid, is_sha256
from archiver.errors import HostileNameError
from archiver.names import RepositoryName, as_commit
from archiver.upstream.huggingface.listing import (
    InfoDocument,
    card_of,
    internal_id,
    licence_of,
    repository_name,
)
from archiver.upstream.listing import LARGEST_FILE, decoded, whole_characters
from archiver.upstream.refs import refs_of

if TYPE_CHECKING:
    from archiver.upstream.http import Subject

HISTORY_PAGES: Final = 4
"""Of the commits that lead to one; the hub lists 50 or more on each."""
_LARGEST_SIBLINGS: Final = 32 * 1024 * 1024
_LONGEST_GATE: Final = 20
_README: Final = "README.md"
_MAIN: Final = "main"

Document = TypeVar("Document")


class StateDocument(InfoDocument):
    """A repository's description, as far as a look needs it; ``siblings`` are its files."""

    gated: bool | str | None = None
    private: bool | None = None
    siblings: msgspec.Raw = msgspec.Raw(b"null")


class SiblingLfs(msgspec.Struct, gc=False):
    """What a description says of a file in LFS."""

    sha256: str = ""
    size: int = -1


class Sibling(msgspec.Struct, gc=False):
    """What a description says of a file."""

    path: str = msgspec.field(name="rfilename")
    oid: str = msgspec.field(name="blobId", default="")
    size: int | None = None
    lfs: SiblingLfs | None = None


class Ref(msgspec.Struct, gc=False):
    """A branch or a tag."""

    name: str = ""
    commit: str = msgspec.field(name="targetCommit", default="")


class RefsDocument(msgspec.Struct):
    """What ``/refs`` lists, less the refs of pull requests and of conversions."""

    branches: list[Ref]
    tags: list[Ref] = []


class HistoryEntry(msgspec.Struct, gc=False):
    """A commit in ``/commits/…``."""

    id: str = ""
    date: str | None = None


def parse_state(body: bytes | bytearray, subject: Subject) -> StateDocument:
    """Return a repository's description; raise HostileNameError if it is another kind of answer.

    Raise NetworkError for what is no JSON: that was not sent by a hub.
    """
    return _parsed(body, StateDocument, subject, "describes no repository")


def parse_refs(body: bytes | bytearray, subject: Subject) -> RefsDocument:
    """Return the branches and tags of a repository; raise as `parse_state`."""
    return _parsed(body, RefsDocument, subject, "lists no branches")


def parse_history(body: bytes | bytearray, subject: Subject) -> list[HistoryEntry]:
    """Return a page of the commits that lead to one; raise as `parse_state`."""
    return _parsed(body, list[HistoryEntry], subject, "lists no commits")


def parse_anything(body: bytes | bytearray, subject: Subject) -> None:
    """Take any answer that is JSON; raise NetworkError for another."""
    _parsed(body, msgspec.Raw, subject, "makes no sense")


def _parsed(body: bytes | bytearray, kind: type[Document], subject: Subject, why: str) -> Document:
    nonsense = HostileNameError(f"The hub's answer about {subject} {why}.")
    try:
        return decoded(body, kind, subject, nonsense)
    except msgspec.DecodeError:
        # Text may hold half a character; the fields that count are checked anyway.
        return decoded(whole_characters(body), kind, subject, nonsense)


def state_of(
    described: StateDocument, refs: RefsDocument | None, subject: Subject, time: str
) -> RepositoryState:
    """Return what the hub says of a repository; ``refs`` is None where it did not list them.

    Raise HostileNameError if the answer is no description of a repository.
    """
    kind = RepositoryName.parse(subject.repository).type
    files = _files(described)
    card = next((file.oid for file in files or () if file.path == _README), "")
    gated = described.gated
    told = refs_of(_pairs(refs.branches), _pairs(refs.tags), _MAIN) if refs else None
    return RepositoryState(
        asked=subject.repository,
        repository=repository_name(described.id or described.model_id, kind),
        endpoint=subject.endpoint,
        time=time,
        head=as_commit(described.sha) if described.sha else "",
        branches=told.branches if told else None,
        tags=told.tags if told else None,
        complete=told is None or told.complete,
        id=internal_id(described, subject),
        licence=_unicode(licence_of(card_of(described))),
        gated=_unicode(gated)[:_LONGEST_GATE] if isinstance(gated, str) else "yes" if gated else "",
        private=bool(described.private),
        disabled=bool(described.disabled),
        card=None if files is None else card,
        files=files,
    )


def _unicode(text: str) -> str:
    """Return ``text`` without lone surrogates, which JSON can hold and UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode()


def _pairs(refs: list[Ref]) -> list[tuple[str, str]]:
    return [(ref.name, ref.commit) for ref in refs]


def _files(described: StateDocument) -> tuple[UpstreamFile, ...] | None:
    """Return the files that a description names; None where it does not, or not in a way to go by."""
    if memoryview(described.siblings).nbytes > _LARGEST_SIBLINGS:
        return None
    raw = bytes(described.siblings)
    if raw.count(b"{") > 2 * FILES_MAX:  # a file in LFS has two
        return None
    try:
        siblings = msgspec.json.decode(raw, type=list[Sibling])
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    if not any(is_git_oid(sibling.oid) for sibling in siblings):
        return None
    return tuple(
        UpstreamFile(
            _unicode(sibling.path),
            _size(sibling.lfs.size if sibling.lfs else sibling.size),
            sibling.oid if is_git_oid(sibling.oid) else "",
            sibling.lfs.sha256 if sibling.lfs and is_sha256(sibling.lfs.sha256) else "",
        )
        for sibling in siblings
    )


def _size(size: int | None) -> int:
    return size if size is not None and 0 <= size <= LARGEST_FILE else -1
