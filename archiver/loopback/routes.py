"""Which request means what: the addresses of the Hub, and the handler of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlencode

from archiver.loopback import listing
from archiver.loopback.resolve import from_cdn, require_access, resolve
from archiver.loopback.wire import RefusedError, json_answer, redirect, refusal

if TYPE_CHECKING:
    from archiver.loopback.repository import Commit, Repository
    from archiver.loopback.state import State
    from archiver.loopback.wire import Request, Response

_VERBS = frozenset({"revision", "refs", "commits", "tree", "paths-info"})
_MODELS = "/api/models"
_COLLECTIONS = "/api/collections/"
_BOTH_PARTS = 2


@dataclass(frozen=True)
class Target:
    """What an address names: a route and, as far as the route has them, its parts."""

    route: str
    repository: str = ""
    revision: str = "main"
    path: str = ""


def target(request: Request, *, cdn: bool) -> Target:
    """The target of ``request``, on the CDN's port or on the hub's own."""
    path = request.path
    if cdn:
        return Target("cdn", request.value("repo"), path=request.value("file"))
    if path == _MODELS:
        return Target("list")
    if path.startswith(_COLLECTIONS):
        return Target("collection", path=_text(path.removeprefix(_COLLECTIONS)))
    if path.startswith(f"{_MODELS}/"):
        return _api_target(path.removeprefix(f"{_MODELS}/").split("/"))
    return _resolve_target(path.removeprefix("/").split("/"))


def _api_target(parts: list[str]) -> Target:
    size = _parts_of_id(parts)
    name, rest = "/".join(parts[:size]), parts[size:]
    if not rest:
        return Target("info", name)
    revision = _text(rest[1]) if len(rest) > 1 else "main"
    route = "info" if rest[0] == "revision" else rest[0]
    return Target(route, name, revision, _text("/".join(rest[2:])))


def _parts_of_id(parts: list[str]) -> int:
    """An id has one part or two: two, unless only the second place holds a verb.

    ``org/tree`` is the name of a repository: every verb but ``refs`` wants a revision after it.
    """
    for size in (_BOTH_PARTS, 1):
        verb = parts[size] if len(parts) > size else ""
        if verb == "refs" or (verb in _VERBS and len(parts) > size + 1):
            return size
    return _BOTH_PARTS


def _resolve_target(parts: list[str]) -> Target:
    for size in (2, 1):
        if parts[size : size + 1] == ["resolve"] and len(parts) > size + 2:
            name = "/".join(parts[:size])
            return Target(
                "resolve", name, _text(parts[size + 1]), _text("/".join(parts[size + 2 :]))
            )
    return Target("unknown")


def _text(part: str) -> str:
    return unquote(part, errors="surrogateescape")


def handle(state: State, request: Request, to: Target) -> Response:
    """The answer to ``request``, refusals included."""
    try:
        return _handle(state, request, to)
    except RefusedError as refused:
        return refused.response


def _handle(state: State, request: Request, to: Target) -> Response:
    if to.route in _WITHOUT_REPOSITORY:
        return _WITHOUT_REPOSITORY[to.route](state, request, to)
    _follow_rename(state, request, to)
    repository = state.repository(to.repository, request)
    if to.route == "refs":
        return json_answer(listing.refs(repository))
    commit = repository.find(to.revision)
    if commit is None:
        return refusal(404, f"Invalid rev id: {to.revision}", "RevisionNotFound")
    return _at_commit(state, request, to, repository, commit)


def _at_commit(
    state: State, request: Request, to: Target, repository: Repository, commit: Commit
) -> Response:
    match to.route:
        case "resolve":
            return resolve(state, repository, commit, to.path, request)
        case "info":
            return _info(state, request, repository, commit)
        case "tree":
            return _tree(state, request, to, repository, commit)
        case "paths-info":
            return _paths_info(state, request, repository, commit)
        case _:
            return _paged(state, request, list(listing.history(commit)))


def _follow_rename(state: State, request: Request, to: Target) -> None:
    new = state.renamed.get(to.repository)
    if new is not None and to.repository not in state.repositories:
        query = f"?{request.query_text}" if request.query_text else ""
        place = request.path.replace(f"/{to.repository}", f"/{new}", 1)
        raise RefusedError(redirect(307, place + query))


def _masked(state: State, repository: Repository, request: Request) -> bool:
    closed = repository.gated and not state.allowed(repository, request.token)
    return repository.masked or closed


def _info(state: State, request: Request, repository: Repository, commit: Commit) -> Response:
    info = listing.model_info(repository, commit)
    masked = _masked(state, repository, request)
    blobs = request.flag("blobs")
    info["siblings"] = listing.siblings(repository, commit, blobs=blobs, masked=masked)
    return json_answer(info)


def _tree(
    state: State, request: Request, to: Target, repository: Repository, commit: Commit
) -> Response:
    if repository.disabled:
        require_access(state, repository, request)
    masked = _masked(state, repository, request)
    recursive = request.flag("recursive")
    entries = listing.tree(repository, commit, to.path, recursive=recursive, masked=masked)
    if to.path and not entries:
        return refusal(404, f"{to.path} does not exist on {to.revision!r}", "EntryNotFound")
    if request.flag("expand"):
        entries = [listing.expanded(entry, commit) for entry in entries]
    return _paged(state, request, entries)


def _paths_info(state: State, request: Request, repository: Repository, commit: Commit) -> Response:
    masked = _masked(state, repository, request)
    asked = parse_qs(request.body.decode())
    paths = asked.get("paths", [])
    found = [listing.path_info(repository, commit, path, masked=masked) for path in paths]
    entries = [entry for entry in found if entry is not None]
    if asked.get("expand", [""])[0].lower() == "true":
        entries = [listing.expanded(entry, commit) for entry in entries]
    return json_answer(entries)


def _cdn(state: State, request: Request, _to: Target) -> Response:
    return from_cdn(state, request)


def _unknown(_state: State, _request: Request, _to: Target) -> Response:
    return refusal(404, "Not Found")


def _models(state: State, request: Request, _to: Target) -> Response:
    author, search = request.value("author"), request.value("search").lower()
    found = [
        listing.model_info(repository, repository.head())
        for name, repository in sorted(state.repositories.items())
        if (not author or name.startswith(f"{author}/"))
        and search in name.lower()
        and (not repository.private or state.allowed(repository, request.token))
    ]
    return _paged(state, request, found)


def _collection(state: State, _request: Request, to: Target) -> Response:
    found = state.collections.get(to.path)
    if found is None:
        return refusal(404, "Collection not found")
    return json_answer(found)


def _paged(state: State, request: Request, items: list[Any]) -> Response:
    size = min(state.page_size, int(request.value("limit") or state.page_size))
    start = int(request.value("cursor") or 0)
    response = json_answer(items[start : start + size])
    if start + size < len(items):
        terms = {name: values[0] for name, values in request.query.items()}
        terms["cursor"] = str(start + size)
        place = f"{state.endpoint}{request.path}?{urlencode(terms)}"
        response.headers["Link"] = f'<{place}>; rel="next"'
    return response


_WITHOUT_REPOSITORY = {
    "cdn": _cdn,
    "list": _models,
    "collection": _collection,
    "unknown": _unknown,
}
