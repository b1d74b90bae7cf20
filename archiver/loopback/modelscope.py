"""A ModelScope on 127.0.0.1: the same kind of repositories, by ModelScope's addresses and JSON.

Its commits are its own, its main branch is called ``master``, each file is listed with its
SHA-256, and what is not in LFS comes whole, whatever range was asked for.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from archiver.loopback.hub import Hub
from archiver.loopback.message import RefusedError, Response, json_answer, redirect
from archiver.loopback.repository import DATASETS
from archiver.loopback.routes import Routes, Target, from_cdn, opens, ranged, signed_address

if TYPE_CHECKING:
    from archiver.loopback.message import Request
    from archiver.loopback.registry import Registry
    from archiver.loopback.repository import Commit, Entry, Repository

_API = "/api/v1/"
_KINDS = {"models": "", "datasets": DATASETS}
_MASTER, _MAIN = "master", "main"
_LISTED_AT_MOST = 3000
_MODE = "33188"
_VERBS = {
    "": "info",
    "revisions": "refs",
    "commits": "commits",
    "repo/files": "tree",
    "repo/tree": "tree",
    "repo": "resolve",
}
"""What comes after the name in an address, and the route that faults and the log know it by."""
_REQUEST = "00000000-0000-4000-8000-000000000000"
_NAME_PARTS = 2
_NO_SUCH_MODEL = "\u6a21\u578b\u4e0d\u5b58\u5728"
"""As ModelScope says it, in Chinese."""


def commit_id(commit: Commit) -> str:
    """Return ModelScope's own id of a commit, which on the other hub has another."""
    return hashlib.sha1(f"modelscope {commit.id}".encode()).hexdigest()  # noqa: S324 - as git's


def target_of(request: Request, cdn: bool) -> Target:
    """Return the target of ``request``, on the CDN's port or on the hub's own."""
    if cdn:
        return Target("cdn", request.value("repo"), path=request.value("file"))
    kind, _, rest = request.path.removeprefix(_API).partition("/")
    parts = rest.split("/")
    verb = "/".join(parts[_NAME_PARTS:])
    route = _VERBS.get(verb) if request.path.startswith(_API) and kind in _KINDS else None
    if route is None or len(parts) < _NAME_PARTS:
        return Target("unknown")
    # Pages are of datasets only, and the other kind has no such address.
    if (verb == "repo/tree") != (kind == "datasets") and route == "tree":
        return Target("unknown")
    revision = request.value("Ref" if route == "commits" else "Revision") or _MASTER
    path = request.value("FilePath") if route == "resolve" else ""
    return Target(route, _KINDS[kind] + "/".join(parts[:_NAME_PARTS]), revision, path)


def answer(registry: Registry, request: Request, target: Target) -> Response:
    """Return the answer to ``request``, refusals included."""
    try:
        if target.route == "cdn":
            return from_cdn(registry, request)
        if target.route == "unknown":
            return refused(404, "Not Found")
        return _of_repository(registry, request, target)
    except RefusedError as error:
        return error.response


def enveloped(data: Any, **more: Any) -> Response:
    """Return ``data`` as ModelScope wraps it."""
    envelope = {"Code": 200, "Success": True, "Message": "success", "RequestId": _REQUEST}
    return json_answer({**envelope, "Data": data, **more})


def refused(status: int, message: str, code: int = 0) -> Response:
    """Return an error as ModelScope words it."""
    envelope = {"Code": code or status, "Success": False, "RequestId": _REQUEST, "Data": None}
    return json_answer({**envelope, "Message": message}, status)


def _of_repository(registry: Registry, request: Request, target: Target) -> Response:
    repository = _visible_repository(registry, request, target)
    if target.route == "info":
        return enveloped(_info(repository))
    if target.route == "refs":
        return enveloped(_revisions(repository))
    commit = _find(repository, target.revision)
    if commit is None:
        return refused(404, f"revision {target.revision} not found")
    match target.route:
        case "commits":
            return _history(request, commit)
        case "tree":
            return _files(registry, request, repository, commit)
        case _:
            return _file(registry, repository, commit, target.path)


def _visible_repository(registry: Registry, request: Request, target: Target) -> Repository:
    token = request.token
    if token and registry.tokens and token not in registry.tokens:
        raise RefusedError(refused(400, "AccessToken is invalid or expired", 10010103009))
    repository = registry.repositories.get(target.repository)
    closed = repository is not None and (repository.private or repository.gated)
    if repository is None or (closed and not opens(registry, request, repository)):
        raise RefusedError(refused(404, _NO_SUCH_MODEL))
    if repository.disabled:
        raise RefusedError(refused(403, "access denied"))
    return repository


def _find(repository: Repository, revision: str) -> Commit | None:
    own = {commit_id(commit): commit for commit in repository.commits.values()}
    if revision in own:
        return own[revision]
    named = _MAIN if revision == _MASTER else revision
    known = named in repository.branches or named in repository.tags
    return repository.find(named) if known else None


def _info(repository: Repository) -> dict[str, Any]:
    owner, _, name = repository.name.rpartition("/")
    return {
        "Id": int(repository.internal_id[:8], 16),
        "Path": owner,
        "Name": name,
        "License": repository.card.get("license", ""),
        "Visibility": 1 if repository.private else 5,
        "Revision": _MASTER,
        "ReadMeContent": "",
    }


def _revisions(repository: Repository) -> dict[str, Any]:
    branches = [_MASTER if name == _MAIN else name for name in repository.branches]
    return {
        "RevisionMap": {
            "Branches": [{"Revision": name, "CreatedAt": 0} for name in branches],
            "Tags": [{"Revision": name, "CreatedAt": 0} for name in repository.tags],
        }
    }


def _history(request: Request, commit: Commit) -> Response:
    commits: list[Commit] = []
    known: Commit | None = commit
    while known is not None:
        commits.append(known)
        known = known.parent
    size = int(request.value("PageSize") or 50)
    start = (int(request.value("PageNumber") or 1) - 1) * size
    page = [
        {
            "Id": commit_id(listed),
            "ShortId": commit_id(listed)[:8],
            "Title": listed.title,
            "Message": listed.title,
            "CommittedDate": _seconds(listed),
        }
        for listed in commits[start : start + size]
    ]
    return enveloped({"Commit": page}, TotalCount=len(commits))


def _seconds(commit: Commit) -> int:
    return int(datetime.fromisoformat(commit.date).timestamp())


def _files(
    registry: Registry, request: Request, repository: Repository, commit: Commit
) -> Response:
    root = request.value("Root").strip("/")
    prefix = f"{root}/" if root else ""
    recursive = request.flag("Recursive")
    items: dict[str, dict[str, Any]] = {}
    for path, entry in sorted(commit.files.items()):
        if not path.startswith(prefix):
            continue
        parts = path.removeprefix(prefix).split("/")
        folders = parts[:-1] if recursive else parts[:1] * (len(parts) > 1)
        for depth in range(len(folders)):
            folder = prefix + "/".join(folders[: depth + 1])
            items.setdefault(folder, _folder(folder, commit))
        if recursive or len(parts) == 1:
            items[path] = _entry(repository, path, entry, commit)
    listed = [items[path] for path in sorted(items)] + repository.extra_entries
    if size := int(request.value("PageSize") or 0):
        start = (int(request.value("PageNumber") or 1) - 1) * size
        total, listed = len(listed), listed[start : start + size]
        return enveloped({"Files": listed, "LatestCommitter": _latest(commit)}, TotalCount=total)
    return enveloped({"Files": listed[: registry.page_size], "LatestCommitter": _latest(commit)})


def _latest(commit: Commit) -> dict[str, Any]:
    return {"Id": "", "ShortId": commit_id(commit)[:8], "Message": commit.title}


def _folder(path: str, commit: Commit) -> dict[str, Any]:
    return {
        "Path": path,
        "Name": path.rpartition("/")[2],
        "Type": "tree",
        "Size": 0,
        "Sha256": "",
        "Revision": commit_id(commit),
    }


def _entry(repository: Repository, path: str, entry: Entry, commit: Commit) -> dict[str, Any]:
    return {
        "Path": path,
        "Name": path.rpartition("/")[2],
        "Type": "blob",
        "Mode": _MODE,
        "Size": entry.content.size,
        "Sha256": entry.content.sha256,
        "IsLFS": entry.lfs,
        "InCheck": False,
        "Revision": commit_id(commit),
        "CommitMessage": commit.title,
        "CommittedDate": _seconds(commit),
        "CommitterName": "loopback",
    } | repository.claims.get(path, {})


def _file(registry: Registry, repository: Repository, commit: Commit, path: str) -> Response:
    entry = commit.files.get(path)
    if entry is None:
        return refused(404, f"{path} not found")
    if not entry.lfs:
        return ranged(entry.content, "")
    response = redirect(302, signed_address(registry, repository, path, entry.content))
    response.headers["X-Linked-ETag"] = f'"{entry.content.sha256}"'
    return response


MODELSCOPE: Final = Routes(target_of, answer)
"""The addresses of ModelScope."""


class ModelScopeHub(Hub):
    """A registry that is served as ModelScope does; its endpoint is what MODELSCOPE_ENDPOINT wants."""

    routes = MODELSCOPE

    def __init__(self, *, port: int = 0) -> None:
        super().__init__(port=port)
        # A listing of a model has one page, and ends there without a word.
        self.page_size = _LISTED_AT_MOST
