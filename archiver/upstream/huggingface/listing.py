"""What the hub lists: its JSON, bounded, with only the fields that are needed, and what is made of it.

A description of a repository becomes a :class:`Pin`, the pages of its tree become a :class:`Tree`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from archiver.digest import is_git_oid, is_sha256
from archiver.errors import (
    HostileNameError,
    MismatchError,
    RenamedError,
    UsageError,
)
from archiver.names import MODEL, RepositoryName, as_commit, repo_id_of
from archiver.text import printable
from archiver.upstream.huggingface.http import disabled, gated
from archiver.upstream.listing import LARGEST_FILE, FileCollection, decoded, whole_characters
from archiver.upstream.remote_file import RemoteFile

if TYPE_CHECKING:
    from collections.abc import Iterable

    from archiver.upstream.http import Subject

_INTERNAL_ID = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
_MOST_DIGITS = 16
_LARGEST_INTEGER = 2**53
_DEEPEST = 16
_LARGEST_CARD = 64 * 1024
_LARGEST_RAW_CARD = 2 * 1024 * 1024
_LONGEST_LICENCE = 200
_LONGEST_TIME = 64
# --- the hub's JSON


class InfoDocument(msgspec.Struct):
    """What ``/api/models/…`` or ``/api/datasets/…`` says of a repository, as far as it is of use."""

    id: str | None = None
    model_id: str | None = msgspec.field(name="modelId", default=None)
    internal_id: str | None = msgspec.field(name="_id", default=None)
    sha: str | None = None
    modified: str | None = msgspec.field(name="lastModified", default=None)
    disabled: bool | None = None
    card: msgspec.Raw = msgspec.field(name="cardData", default=msgspec.Raw(b"null"))


class LfsPointer(msgspec.Struct, gc=False):
    """What an entry of a tree says of a file in LFS."""

    oid: str = ""
    size: int = -1


class TreeEntry(msgspec.Struct, gc=False):
    """An entry of a tree; ``type`` is ``file`` or ``directory``."""

    path: str
    type: str = ""
    oid: str = ""
    size: int = -1
    lfs: LfsPointer | None = None


class CollectionItem(msgspec.Struct, gc=False):
    """An item of a collection, such as a model."""

    type: str = ""
    id: str | None = None


class CollectionDocument(msgspec.Struct):
    """What ``/api/collections/…`` lists."""

    items: list[CollectionItem]


def parse_info(body: bytes | bytearray, subject: Subject) -> InfoDocument:
    """Return a repository's description; raise HostileNameError if it is another kind of answer.

    Raise NetworkError for what is no JSON: that was not sent by a hub.
    """
    nonsense = HostileNameError(f"The hub's answer about {subject} describes no repository.")
    try:
        return decoded(body, InfoDocument, subject, nonsense)
    except msgspec.DecodeError:
        # The card's text may hold half a character; the fields that count are checked anyway.
        return decoded(whole_characters(body), InfoDocument, subject, nonsense)


def parse_tree(body: bytes | bytearray, subject: Subject) -> list[TreeEntry]:
    """Return a page of a tree; raise as `parse_info`, and MismatchError for an entry without sense."""
    nonsense = MismatchError(
        f"Upstream's listing of {subject} has an entry without a name or size.",
        hint="Nothing was fetched; the hub, or what stands in between, sends nonsense.",
    )
    try:
        return decoded(body, list[TreeEntry], subject, nonsense)
    except msgspec.DecodeError as error:
        raise HostileNameError(
            f"Upstream's listing of {subject} holds a name that is not Unicode text.",
            hint="Nothing was fetched. Ask the publisher to rename the file.",
        ) from error


def parse_collection(body: bytes | bytearray, subject: Subject) -> CollectionDocument:
    """Return a collection; raise as `parse_info`."""
    nonsense = HostileNameError(f"The hub's answer about {subject} describes no collection.")
    try:
        return decoded(body, CollectionDocument, subject, nonsense)
    except msgspec.DecodeError:
        return decoded(whole_characters(body), CollectionDocument, subject, nonsense)


def _integer(digits: str) -> int | str:
    value = int(digits) if len(digits) <= _MOST_DIGITS else _LARGEST_INTEGER + 1
    return value if -_LARGEST_INTEGER <= value <= _LARGEST_INTEGER else digits


def card_of(info: InfoDocument) -> dict[str, Any]:
    """Return the model card's metadata as a manifest keeps it; ``{}`` if there is none.

    Floating-point numbers and huge integers become their own text, keys become ASCII, what is
    nested deeper than 16 levels becomes null, and fields are left out from the first one on that
    would bring the card above 64 KiB of JSON. Of a card above 2 MiB nothing is kept.
    """
    if memoryview(info.card).nbytes > _LARGEST_RAW_CARD:
        return {}
    try:
        fields = json.loads(
            bytes(info.card), parse_float=str, parse_constant=str, parse_int=_integer
        )
    except (ValueError, RecursionError):
        return {}
    card: dict[str, Any] = {}
    room = _LARGEST_CARD
    for key, value in fields.items() if isinstance(fields, dict) else ():
        field = {_ascii(key): _clean(value, 1)}
        room -= len(json.dumps(field, ensure_ascii=False).encode())
        if room < 0:
            break
        card |= field
    return card


def _clean(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return _unicode(value)
    if depth >= _DEEPEST:
        return value if value is None or isinstance(value, (bool, int)) else None
    if isinstance(value, dict):
        return {_ascii(key): _clean(inner, depth + 1) for key, inner in value.items()}
    if isinstance(value, list):
        return [_clean(inner, depth + 1) for inner in value]
    return value


def _ascii(key: str) -> str:
    return key.encode("ascii", "backslashreplace").decode()


def _unicode(text: str) -> str:
    """Return ``text`` without lone surrogates, which JSON can hold and UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode()


def licence_of(card: dict[str, Any]) -> str:
    """Return the licence that a card declares; the custom licence's name where it says ``other``."""
    licence = card.get("license")
    declared = licence if isinstance(licence, list) else [licence]
    names = [name for name in declared if isinstance(name, str)]
    if names == ["other"] and isinstance(card.get("license_name"), str):
        names = [card["license_name"]]
    return ", ".join(names)[:_LONGEST_LICENCE]


def time_of(text: str | None) -> str:
    """Return a time of the hub's API as the format writes it; ``""`` if it is none."""
    try:
        moment = datetime.fromisoformat((text or "")[:_LONGEST_TIME]).astimezone(UTC)
    except (ValueError, OverflowError):
        return ""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ").zfill(len("2026-01-01T00:00:00Z"))


# --- a revision


@dataclass(frozen=True)
class Pin:
    """A repository's description at one commit."""

    repository: str
    commit: str
    id: str
    committed: str
    licence: str
    card: dict[str, Any]


def pin(info: InfoDocument, subject: Subject) -> Pin:
    """Read the hub's description of a repository.

    Raises:
        AccessError: The repository is disabled.
        RenamedError: It has another name now.
        MismatchError: The answer is about another commit.
        HostileNameError: The answer is no description of a repository.
    """
    if info.disabled:
        raise disabled(subject)
    card = card_of(info)
    return Pin(
        repository=_name(info, subject),
        commit=_commit(info, subject),
        id=internal_id(info, subject),
        committed=time_of(info.modified),
        licence=licence_of(card),
        card=card,
    )


def repository_name(text: str | None, kind: str = MODEL) -> str:
    """Return the spelling of a repository whose name the hub sent; HostileNameError if it is none."""
    try:
        return repo_id_of(text or "", kind=kind)
    except UsageError as error:
        raise HostileNameError(f"From the hub: {error.message}") from error


def _name(info: InfoDocument, subject: Subject) -> str:
    kind = RepositoryName.parse(subject.repository).type
    name = repository_name(info.id or info.model_id, kind)
    if name.casefold() != subject.repository.casefold():
        raise RenamedError(
            f"{printable(subject.repository)} is called {name} now.",
            hint=f"Mirror {name} instead; what the archive holds under the old name stays.",
            subject=subject.repository,
        )
    return name


def _commit(info: InfoDocument, subject: Subject) -> str:
    commit = as_commit(str(info.sha))
    if is_git_oid(subject.revision) and subject.revision != commit:
        # Not "gone": a hub, or what stands before it, that answers something else says nothing of that.
        raise MismatchError(
            f"Asked for {subject}, the hub answered about commit {commit}.",
            hint="Run the command again later. If it stays so, look at what stands between this machine "
            "and the hub, such as a proxy or another HF_ENDPOINT.",
        )
    return commit


def internal_id(info: InfoDocument, subject: Subject) -> str:
    """Return the hub's own id of a repository, ``""`` if it has none; HostileNameError if that is none."""
    if info.internal_id and not _INTERNAL_ID.match(info.internal_id):
        raise HostileNameError(f"The hub's own id of {subject} is no id of a hub.")
    return info.internal_id or ""


class Tree(FileCollection):
    """The files of a commit, collected page by page."""

    def add(self, page: Iterable[TreeEntry]) -> bool:
        """Take a page's files in and return whether the next page is worth asking for.

        Raises:
            AccessError: The hub hides digests, as it does for a gated repository.
            MismatchError: A file has no size or no digest that it could be checked by, or the
                listing is larger than any may be.
        """
        entries = list(page)
        if any(map(_hidden, entries)):
            raise gated(self.subject)
        files = [_remote(entry, self.subject) for entry in entries if entry.type != "directory"]
        return self.take(files, folders=len(entries) - len(files))


def _hidden(entry: TreeEntry) -> bool:
    oids = (entry.lfs.oid if entry.lfs else "", entry.oid)
    return any(oid and not oid.strip("*") for oid in oids)


def _remote(entry: TreeEntry, subject: Subject) -> RemoteFile:
    lfs = entry.lfs
    size, sha256 = (lfs.size, lfs.oid) if lfs else (entry.size, "")
    name = printable(entry.path) or "a file without a name"
    if not 0 <= size <= LARGEST_FILE:
        raise MismatchError(
            f"Upstream lists {name} of {subject} without a size that a file can have."
        )
    if not is_git_oid(entry.oid) or (lfs and not is_sha256(sha256)):
        raise MismatchError(f"Upstream lists {name} of {subject} without a digest.")
    return RemoteFile(entry.path, size, sha256, entry.oid, lfs=bool(lfs))
