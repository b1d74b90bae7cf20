"""From the hub's descriptions of a repository to a :class:`Listing`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from archiver.digest import is_git_oid, is_sha256
from archiver.errors import HostileNameError, MismatchError, UpstreamGoneError, UsageError
from archiver.names import as_commit, as_repo_id
from archiver.text import printable
from archiver.upstream.huggingface.answers import Asked, disabled, gated
from archiver.upstream.huggingface.parsing import card_of, licence_of, time_of
from archiver.upstream.protocol import RemoteFile

_LONGEST_ID = 64


@dataclass(frozen=True)
class Pin:
    """A repository's description at one commit."""

    repository: str
    commit: str
    id: str
    committed: str
    licence: str
    card: dict[str, Any]


def pin(info: Any, asked: Asked) -> Pin:
    """Read the hub's description of a repository.

    Raises:
        AccessError: The repository is disabled.
        UpstreamGoneError: It has another name now, or the answer is about another commit.
        HostileNameError: The answer is no description of a repository.
    """
    if not isinstance(info, dict):
        raise HostileNameError(f"The hub's answer about {asked} describes no repository.")
    if info.get("disabled") is True:
        raise disabled(asked)
    card = card_of(info)
    return Pin(
        repository=_name(info, asked),
        commit=_commit(info, asked),
        id=str(info.get("_id") or "")[:_LONGEST_ID],
        committed=time_of(info.get("lastModified")),
        licence=licence_of(card),
        card=card,
    )


def repository_name(text: Any) -> str:
    """A repository's name that the hub sent; raises HostileNameError if it is none."""
    try:
        return as_repo_id(str(text))
    except UsageError as error:
        raise HostileNameError(f"From the hub: {error.message}") from error


def _name(info: dict[str, Any], asked: Asked) -> str:
    name = repository_name(info.get("id") or info.get("modelId"))
    if name.casefold() != asked.repository.casefold():
        raise UpstreamGoneError(
            f"{printable(asked.repository)} is called {name} now.",
            hint=f"Mirror {name} instead; what the archive holds under the old name stays.",
        )
    return name


def _commit(info: dict[str, Any], asked: Asked) -> str:
    commit = as_commit(str(info.get("sha")))
    if is_git_oid(asked.revision) and asked.revision != commit:
        raise UpstreamGoneError(f"Asked for {asked}, the hub answered about commit {commit}.")
    return commit


def remote_files(entries: list[Any], asked: Asked) -> list[RemoteFile]:
    """The files among the entries of a tree.

    Raises:
        AccessError: The hub hides digests, as it does for a gated repository.
        MismatchError: A file has no size or no digest that it could be checked by.
    """
    if any(_hidden(entry) for entry in entries):
        raise gated(asked)
    return [_remote(entry, asked) for entry in entries if _type(entry) != "directory"]


def _type(entry: Any) -> str:
    return str(entry.get("type")) if isinstance(entry, dict) else ""


def _hidden(entry: Any) -> bool:
    lfs = entry.get("lfs") if isinstance(entry, dict) else None
    oids = (lfs.get("oid") if isinstance(lfs, dict) else "", _field(entry, "oid"))
    return any(isinstance(oid, str) and oid and not oid.strip("*") for oid in oids)


def _remote(entry: Any, asked: Asked) -> RemoteFile:
    path, oid, lfs = _field(entry, "path"), _field(entry, "oid"), _field(entry, "lfs")
    size = _field(lfs, "size") if lfs else _field(entry, "size")
    sha256 = _field(lfs, "oid") if lfs else ""
    if not isinstance(path, str) or not isinstance(size, int) or size < 0:
        raise MismatchError(f"Upstream's listing of {asked} has an entry without a name or size.")
    if not is_git_oid(str(oid)) or (lfs and not is_sha256(str(sha256))):
        raise MismatchError(f"Upstream lists {printable(path)} of {asked} without a digest.")
    return RemoteFile(path, size, str(sha256), str(oid), lfs=bool(lfs))


def _field(record: Any, name: str) -> Any:
    return record.get(name) if isinstance(record, dict) else None
