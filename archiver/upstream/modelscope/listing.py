"""What ModelScope lists: its JSON, with only the fields that are needed, and what is made of it.

As its client asks (``modelscope-hub`` 0.5.1, ``modelscope`` 1.33 and 1.40; read in their source):

- ``/api/v1/models/{id}/commits?Ref=&PageNumber=&PageSize=``: the history of a branch, a tag or a
  commit, newest first. ``Data.Commit`` has ``Id`` (40 digits), ``ShortId``, ``CommittedDate``
  (seconds). Commits are ModelScope's own: a repository that is on both hubs has other ones here.
- ``/api/v1/models/{id}/repo/files?Revision=&Recursive=True&Root=``: ``Data.Files``, each with
  ``Path``, ``Type`` (``blob``, or ``tree`` for a folder), ``Size``, ``Sha256`` (of every file,
  not of LFS files only), ``IsLFS`` and ``Revision`` (the commit that last changed it).
  ``Data.LatestCommitter`` names the commit, though its ``Id`` may be empty. There are no pages: a
  listing ends after 3,000 entries without a word, so one of that length is listed again folder by
  folder, by ``Root``.
- ``/api/v1/datasets/{id}/repo/tree?…&PageNumber=&PageSize=``: the same of a dataset, in pages;
  the last one is short.
- ``/api/v1/models/{id}``: ``Data.Id``, ``Path`` and ``Name`` (the owner and the name),
  ``License``.
- ``/api/v1/models/{id}/repo?Revision=&FilePath=``: a file. LFS files come by a redirect to a CDN,
  which gives ranges; others come at once, and whole, whatever range was asked for.
  ``X-Linked-ETag``, where there is one, is the SHA-256.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from archiver.digest import is_git_oid, is_sha256
from archiver.errors import HostileNameError, MismatchError, RenamedError, UsageError
from archiver.names import MODELSCOPE, RepositoryName, as_commit, repo_id_of
from archiver.text import printable
from archiver.upstream.listing import LARGEST_FILE, decoded, whole_characters
from archiver.upstream.modelscope.http import ENDPOINT_VARIABLE, refusal
from archiver.upstream.remote_file import RemoteFile

if TYPE_CHECKING:
    from archiver.upstream.http import Subject

TRUNCATED_AT: Final = 3000
"""Entries after which a listing of a model ends without a word."""
PAGE_SIZE: Final = 200
"""Entries of a page of a dataset's listing, as the client asks for them."""
_LONGEST_LICENCE = 200
_LARGEST_ID = 2**63
_LONGEST_ID = 20
_SHORTEST_ID = 7
_EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
"""The SHA-256 of nothing."""
_OK = frozenset({None, 200, "200"})
_REFUSALS = range(400, 600)

_LONGEST_VALUE = 1024
"""Bytes of a value that may be anything: a list of lists takes sixty times as much in memory."""
_NULL = msgspec.Raw(b"null")

Data = TypeVar("Data")


class _Envelope(msgspec.Struct):
    code: int | str | None = msgspec.field(name="Code", default=None)
    success: bool | None = msgspec.field(name="Success", default=None)
    message: str | None = msgspec.field(name="Message", default=None)
    data: msgspec.Raw = msgspec.field(name="Data", default=_NULL)


class CommitEntry(msgspec.Struct, rename="pascal"):
    """A commit of a history."""

    id: str
    committed_date: msgspec.Raw = _NULL


class History(msgspec.Struct, rename="pascal"):
    """A page of a history, newest first."""

    commit: list[CommitEntry] | None = None


class Info(msgspec.Struct, rename="pascal"):
    """What is said of a repository, as far as it is of use; ``path`` is its owner.

    What is only kept to be shown may be anything, and is dropped where it makes no sense.
    """

    id: msgspec.Raw = _NULL
    path: str | None = None
    name: str | None = None
    license: msgspec.Raw = _NULL
    visibility: msgspec.Raw = _NULL
    protected_mode: msgspec.Raw = _NULL
    read_me_content: msgspec.Raw = _NULL


class FileItem(msgspec.Struct, gc=False):
    """An entry of a listing; ``type`` is ``blob`` or ``tree``."""

    path: str = msgspec.field(name="Path")
    type: str = msgspec.field(name="Type", default="")
    size: int = msgspec.field(name="Size", default=-1)
    sha256: str | None = msgspec.field(name="Sha256", default=None)
    is_lfs: bool | None = msgspec.field(name="IsLFS", default=None)
    is_lfs_too: bool | None = msgspec.field(name="IsLfs", default=None)
    revision: str | None = msgspec.field(name="Revision", default=None)

    @property
    def folder(self) -> bool:
        """Whether it is none of the files."""
        return self.type.lower() == "tree"


class LatestCommit(msgspec.Struct, rename="pascal"):
    """The commit that a listing is of; either may be empty."""

    id: str | None = None
    short_id: str | None = None


class FilesPage(msgspec.Struct, rename="pascal"):
    """A listing, or a page of one."""

    files: list[FileItem] | None = None
    latest_committer: LatestCommit | None = None


def parse_history(body: bytes | bytearray, subject: Subject) -> History:
    """Return a history; raise what the answer stands for if it is none."""
    return data_of(body, History, subject)


def parse_info(body: bytes | bytearray, subject: Subject) -> Info:
    """Return a repository's description; raise what the answer stands for if it is none."""
    return data_of(body, Info, subject)


def parse_files(body: bytes | bytearray, subject: Subject) -> FilesPage:
    """Return a listing; raise what the answer stands for if it is none."""
    return data_of(body, FilesPage, subject)


def data_of(body: bytes | bytearray, kind: type[Data], subject: Subject) -> Data:
    """Return what an answer carries; raise what it stands for if it is a refusal or of another form."""
    nonsense = HostileNameError(
        f"ModelScope's answer about {subject} is not of the form that its API has.",
        hint=f"Nothing was fetched. Check that {ENDPOINT_VARIABLE} is a hub of that kind.",
    )
    # A commit's message may hold half a character; of a path that would be another name.
    lenient = kind is not FilesPage
    envelope = _whole(body, _Envelope, subject, nonsense, lenient=lenient)
    if envelope.code not in _OK or envelope.success is False:
        code = str(envelope.code or "")
        status = int(code) if code.isdecimal() and len(code) <= len("599") else 0
        known = status if status in _REFUSALS else int(HTTPStatus.BAD_REQUEST)
        raise refusal(known, subject, envelope.message or "", code)
    return _whole(bytes(envelope.data), kind, subject, nonsense, lenient=lenient)


def _whole(
    body: bytes | bytearray,
    kind: type[Data],
    subject: Subject,
    nonsense: HostileNameError,
    *,
    lenient: bool,
) -> Data:
    """Return a document; where it is ``lenient``, with question marks for halves of characters."""
    try:
        return decoded(body, kind, subject, nonsense)
    except msgspec.DecodeError:
        if not lenient:
            raise nonsense from None
        return decoded(whole_characters(body), kind, subject, nonsense)


@dataclass(frozen=True)
class Pin:
    """A commit of a repository, and when it was made."""

    commit: str
    committed: str


def pin(history: History, subject: Subject) -> Pin | None:
    """Return the newest commit of a history, None if it has none.

    Raise MismatchError if another commit was asked for, HostileNameError if it is no commit.
    """
    if not history.commit:
        return None
    newest = history.commit[0]
    commit = as_commit(newest.id)
    if is_git_oid(subject.revision) and subject.revision != commit:
        raise MismatchError(
            f"Asked for {subject}, ModelScope answered about commit {commit}.",
            hint="Run the command again later. If it stays so, look at what stands between this machine "
            f"and the hub, such as a proxy or another {ENDPOINT_VARIABLE}.",
        )
    return Pin(commit, time_of(newest.committed_date))


def name_of(info: Info, subject: Subject) -> str:
    """Return the repository as ModelScope spells it now, whatever it was asked for as.

    Raise HostileNameError if that is no name.
    """
    repository = RepositoryName.parse(subject.repository)
    if not info.path or not info.name:
        return repository.spelling
    try:
        return repo_id_of(f"{info.path}/{info.name}", hub=MODELSCOPE, kind=repository.type)
    except UsageError as error:
        raise HostileNameError(f"From the hub: {error.message}") from error


def spelling_of(info: Info, subject: Subject) -> str:
    """Return the repository as ModelScope spells it; raise RenamedError if it has another name now."""
    spelling = name_of(info, subject)
    if spelling.casefold() != subject.repository.casefold():
        raise RenamedError(
            f"{printable(subject.repository)} is called {spelling} now.",
            hint=f"Mirror {spelling} instead; what the archive holds under the old name stays.",
            subject=subject.repository,
        )
    return spelling


def id_of(info: Info) -> str:
    """Return ModelScope's own id of a repository, ``""`` if it has none that makes sense."""
    number = value_of(info.id)
    if isinstance(number, str) and number.isascii() and number.isdecimal():
        number = int(number[:_LONGEST_ID])
    known = isinstance(number, int) and not isinstance(number, bool) and 0 < number < _LARGEST_ID
    return str(number) if known else ""


def licence_of(info: Info) -> str:
    """Return the licence that is declared."""
    licence = value_of(info.license)
    return licence[:_LONGEST_LICENCE] if isinstance(licence, str) else ""


def value_of(raw: msgspec.Raw) -> Any:
    """Return a small value, whatever it is; None of a large one."""
    if memoryview(raw).nbytes > _LONGEST_VALUE:
        return None
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return None


def text_of(raw: msgspec.Raw) -> str:
    """Return a text of any length, ``""`` if it is none."""
    try:
        return msgspec.json.decode(raw, type=str)
    except (msgspec.DecodeError, ValueError):
        return ""


def time_of(raw: msgspec.Raw) -> str:
    """Return a time as the format writes it; ``""`` if it is none."""
    seconds = value_of(raw)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or seconds <= 0:
        return ""
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return ""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def require_commit(page: FilesPage, subject: Subject) -> None:
    """Raise MismatchError if a listing names another commit than it was asked for."""
    latest = page.latest_committer
    full, short = (latest.id or "", latest.short_id or "") if latest else ("", "")
    if (full and full != subject.revision) or not subject.revision.startswith(short):
        raise MismatchError(
            f"Asked for {subject}, ModelScope listed commit {printable(full or short)}.",
            hint="Nothing was fetched. Run the command again later.",
        )


def listed_commit(page: FilesPage, subject: Subject) -> str:
    """Return the commit that a listing is of; ``""`` if it does not say, or of another than was asked for.

    It may name the first digits only: then it is the file that this commit changed which has them all.
    """
    latest = page.latest_committer
    full, short = (latest.id or "", latest.short_id or "") if latest else ("", "")
    listed = [full, *(file.revision or "" for file in page.files or ())]
    known = [subject.revision] if is_git_oid(subject.revision) else listed
    begins = full or (short if len(short) >= _SHORTEST_ID else "")
    fitting = (commit for commit in known if is_git_oid(commit) and commit.startswith(begins))
    return next(fitting, "") if begins else ""


def remote_file(item: FileItem, subject: Subject) -> RemoteFile:
    """Return a file as it is listed; raise MismatchError where it has no size or no digest."""
    name = printable(item.path) or "a file without a name"
    sha256 = (item.sha256 or "").lower()
    if not 0 <= item.size <= LARGEST_FILE:
        raise MismatchError(
            f"Upstream lists {name} of {subject} without a size that a file can have."
        )
    if not is_sha256(sha256):
        raise MismatchError(f"Upstream lists {name} of {subject} without a digest.")
    if not item.size and sha256 != _EMPTY:
        # A size that it does not know is 0 too.
        raise MismatchError(f"Upstream lists {name} of {subject} without a size.")
    return RemoteFile(item.path, item.size, sha256, lfs=bool(item.is_lfs or item.is_lfs_too))
