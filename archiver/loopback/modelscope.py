"""A ModelScope on 127.0.0.1: the same kind of repositories, by ModelScope's addresses and JSON.

Its commits are its own, its main branch is called ``master``, each file is listed with its
SHA-256, and what is not in LFS comes whole, whatever range was asked for. Git lists the branches
and tags (``git ls-remote``), unless ``serves_git`` is off; nothing can be cloned. A repository that was
renamed answers under its old name, and says what it is called.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from archiver.loopback.hub import Hub
from archiver.loopback.message import RefusedError, Response, json_answer, redirect, whole
from archiver.loopback.repository import DATASETS
from archiver.loopback.routes import Routes, Target, from_cdn, opens, ranged, signed_address

if TYPE_CHECKING:
    from archiver.loopback.message import Request
    from archiver.loopback.registry import Registry
    from archiver.loopback.repository import Commit, Entry, Repository

_API = "/api/v1/"
_KINDS = {"models": "", "datasets": DATASETS}
MASTER, _MAIN = "master", "main"
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
_OPEN_API = "/openapi/v1/"
_GIT = ".git/info/refs"
_OPEN_LIST_MAX = 3000
_OPEN_PAGE_MAX = 50
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
    if request.path.startswith(_OPEN_API):
        return _open_target(request.path.removeprefix(_OPEN_API))
    if request.path.endswith(_GIT):
        name = unquote(request.path.removesuffix(_GIT).removeprefix("/")).removeprefix("models/")
        return Target("git", name)
    kind, _, rest = request.path.removeprefix(_API).partition("/")
    parts = rest.split("/")
    verb = "/".join(parts[_NAME_PARTS:])
    route = _VERBS.get(verb) if request.path.startswith(_API) and kind in _KINDS else None
    if route is None or len(parts) < _NAME_PARTS:
        return Target("unknown")
    # Pages are of datasets only, and the other kind has no such address.
    if (verb == "repo/tree") != (kind == "datasets") and route == "tree":
        return Target("unknown")
    revision = request.value("Ref" if route == "commits" else "Revision") or MASTER
    path = request.value("FilePath") if route == "resolve" else ""
    return Target(route, _KINDS[kind] + "/".join(parts[:_NAME_PARTS]), revision, path)


def _open_target(listed: str) -> Target:
    kind, _, name = listed.partition("/")
    if kind not in _KINDS:
        return Target("unknown")
    return Target("about", _KINDS[kind] + name) if name else Target("list", path=_KINDS[kind])


def answer(registry: Registry, request: Request, target: Target) -> Response:
    """Return the answer to ``request``, refusals included."""
    try:
        if target.route == "cdn":
            return from_cdn(registry, request)
        if target.route == "unknown":
            return refused(404, "Not Found")
        if target.route == "list":
            return _all_of(registry, request, target.path)
        if target.route == "about":
            return _about(registry, request, target)
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
    match target.route:
        case "info":
            return enveloped(_info(repository))
        case "refs":
            return enveloped(_revisions(registry, repository))
        case "git":
            return _advertisement(registry, request, repository)
        case _:
            return _of_commit(registry, request, target, repository)


def _of_commit(
    registry: Registry, request: Request, target: Target, repository: Repository
) -> Response:
    commit = _find(repository, target.revision)
    if commit is None and target.route == "tree":
        return enveloped({"Files": None, "LatestCommitter": None})
    if commit is None or (target.route == "commits" and not registry.serves_history):
        return refused(404, f"revision {target.revision} not found")
    match target.route:
        case "commits":
            return _history(request, commit)
        case "tree":
            return _files(registry, request, repository, commit)
        case _:
            return _file(registry, repository, commit, target.path)


def _visible_repository(registry: Registry, request: Request, target: Target) -> Repository:
    _require_token(registry, request)
    renamed = registry.renamed.get(target.repository, target.repository)
    repository = registry.repositories.get(target.repository) or registry.repositories.get(renamed)
    closed = repository is not None and (repository.private or repository.gated)
    if repository is None or (closed and not opens(registry, request, repository)):
        raise RefusedError(refused(404, _NO_SUCH_MODEL))
    if repository.disabled:
        raise RefusedError(refused(403, "access denied"))
    return repository


def _require_token(registry: Registry, request: Request) -> None:
    token = request.token
    if token and registry.tokens and token not in registry.tokens:
        raise RefusedError(refused(400, "AccessToken is invalid or expired", 10010103009))
    if token in registry.expired:
        raise RefusedError(refused(401, "AccessToken is invalid or expired"))


def _all_of(registry: Registry, request: Request, kind: str) -> Response:
    """Return a page of the open API's list of the models, or datasets, of an owner."""
    _require_token(registry, request)
    number, size = int(request.value("page_number") or 1), int(request.value("page_size") or 10)
    if number * size > _OPEN_LIST_MAX or size > _OPEN_PAGE_MAX:
        return json_answer({"success": False, "code": "InputParameterError", "message": ""}, 400)
    owner = request.value("owner")
    names = [
        repository.name
        for _, repository in sorted(registry.repositories.items())
        if bool(kind) == (repository.kind == "dataset")
        and (not owner or repository.name.startswith(f"{owner}/"))
        and not repository.private
    ]
    page = [{"id": name} for name in names[(number - 1) * size : number * size]]
    data = {
        "datasets" if kind else "models": page,
        "total_count": len(names),
        "page_number": number,
        "page_size": size,
    }
    return json_answer({"success": True, "data": data, "request_id": _REQUEST})


def _about(registry: Registry, request: Request, target: Target) -> Response:
    """Return the open API's description of a repository."""
    repository = registry.repositories.get(target.repository)
    closed = repository is not None and (repository.private or repository.gated)
    if repository is None or (closed and not opens(registry, request, repository)):
        missing = {"success": False, "code": "ResourceNotFound", "message": _NO_SUCH_MODEL}
        return json_answer(missing, 404)
    data = {
        "id": repository.name,
        "license": repository.card.get("license", ""),
        "private": bool(closed),
        "gated": bool(repository.gated),
        "login_required": False,
    }
    return json_answer({"success": True, "data": data, "request_id": _REQUEST})


def _advertisement(registry: Registry, request: Request, repository: Repository) -> Response:
    """Return git's list of the branches and tags; each tag is an object, beside which its commit stands."""
    if not registry.serves_git or request.value("service") != "git-upload-pack":
        return refused(404, "Not Found")
    if request.headers.get("authorization", "Basic").partition(" ")[0] != "Basic":
        return refused(401, "git sends a password")
    heads = sorted((_name_of(name), commit) for name, commit in repository.branches.items())
    lines = [f"{_commit_of(repository, commit)} refs/heads/{name}" for name, commit in heads]
    for name, commit in sorted(repository.tags.items()):
        tag = hashlib.sha1(f"tag {name} {commit}".encode()).hexdigest()  # noqa: S324 - as git's
        lines += [
            f"{tag} refs/tags/{name}",
            f"{_commit_of(repository, commit)} refs/tags/{name}^{{}}",
        ]
    capabilities = "\x00side-band-64k ofs-delta agent=git/loopback"
    head = f"{lines[0].partition(' ')[0]} HEAD" if heads else f"{'0' * 40} capabilities^{{}}"
    text = _packet("# service=git-upload-pack\n") + "0000" + _packet(f"{head}{capabilities}\n")
    text += "".join(_packet(f"{line}\n") for line in lines) + "0000"
    kind = "application/x-git-upload-pack-advertisement"
    response = Response(200, {"Content-Type": kind, "Cache-Control": "no-cache"})
    response.carry(whole(text.encode("utf-8", "surrogateescape")))
    return response


def _packet(text: str) -> str:
    return f"{len(text.encode('utf-8', 'surrogateescape')) + 4:04x}{text}"


def _name_of(branch: str) -> str:
    return MASTER if branch == _MAIN else branch


def _commit_of(repository: Repository, commit: str) -> str:
    return commit_id(repository.commits[commit])


def _find(repository: Repository, revision: str) -> Commit | None:
    own = {commit_id(commit): commit for commit in repository.commits.values()}
    if revision in own:
        return own[revision]
    named = _MAIN if revision == MASTER else revision
    known = named in repository.branches or named in repository.tags
    return repository.find(named) if known else None


def _info(repository: Repository) -> dict[str, Any]:
    owner, _, name = repository.name.rpartition("/")
    readme = repository.head().files.get("README.md")
    return {
        "Id": int(repository.internal_id[:8], 16),
        "Path": owner,
        "Name": name,
        "License": repository.card.get("license", ""),
        "Visibility": 1 if repository.private or repository.gated else 5,
        "ProtectedMode": 1 if repository.gated else 2,
        "Revision": MASTER,
        "ReadMeContent": readme.content.read(0, readme.content.size).decode() if readme else "",
    }


def _revisions(registry: Registry, repository: Repository) -> dict[str, Any]:
    def listed(refs: dict[str, str]) -> list[dict[str, Any]]:
        return [
            {"Revision": _name_of(name), "CreatedAt": 0}
            | ({"CommitId": _commit_of(repository, commit)} if registry.lists_commits else {})
            for name, commit in refs.items()
        ]

    return {
        "RevisionMap": {"Branches": listed(repository.branches), "Tags": listed(repository.tags)}
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
