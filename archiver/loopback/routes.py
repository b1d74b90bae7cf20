"""Which request means what: the addresses of the Hub, and the answer to each."""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import parse_qs, quote, unquote, urlencode

from archiver.loopback import listing
from archiver.loopback.message import RefusedError, Response, Span, json_answer, redirect, refusal
from archiver.loopback.repository import DATASETS

if TYPE_CHECKING:
    from collections.abc import Callable

    from archiver.loopback.message import Request
    from archiver.loopback.registry import Registry
    from archiver.loopback.repository import Commit, Content, Repository

_VERBS = frozenset({"revision", "refs", "commits", "tree", "paths-info"})
_LISTS = {"/api/models": "", "/api/datasets": DATASETS}
"""Addresses of all repositories of a kind, and how the ids of these begin."""
_COLLECTIONS = "/api/collections/"
_WHOAMI = "/api/whoami-v2"
_STRANGER = "Invalid username or password."
"""What the Hub says to who sends no token and asks for what is private or missing."""
_BOTH_PARTS = 2
_ONE_RANGE = re.compile(r"bytes=(\d*)-(\d*)\Z")
_SIGNING_KEY = b"loopback"


class Routes(NamedTuple):
    """What the addresses of a kind of hub mean.

    ``target_of`` takes a request and whether it came to the CDN's port, ``answer`` gives an answer to
    what that names, refusals included.
    """

    target_of: Callable[[Request, bool], Target]
    answer: Callable[[Registry, Request, Target], Response]


@dataclass(frozen=True)
class Target:
    """What an address names: a route and, as far as the route has them, its parts."""

    route: str
    repository: str = ""
    revision: str = "main"
    path: str = ""


def target_of(request: Request, cdn: bool) -> Target:
    """Return the target of ``request``, on the CDN's port or on the hub's own."""
    path = request.path
    if cdn:
        return Target("cdn", request.value("repo"), path=request.value("file"))
    if path in _LISTS or path == _WHOAMI:
        return Target("whoami") if path == _WHOAMI else Target("list", path=_LISTS[path])
    if path.startswith(_COLLECTIONS):
        return Target("collection", path=_text(path.removeprefix(_COLLECTIONS)))
    for api, kind in _LISTS.items():
        if path.startswith(f"{api}/"):
            return _api_target(path.removeprefix(f"{api}/").split("/"), kind)
    kind = DATASETS if path.startswith(f"/{DATASETS}") else ""
    parts = path.removeprefix(f"/{kind}").split("/")
    for size in (_BOTH_PARTS, 1):
        if parts[size : size + 1] == ["resolve"] and len(parts) > size + 2:
            name, revision = "/".join(parts[:size]), _text(parts[size + 1])
            return Target("resolve", kind + name, revision, _text("/".join(parts[size + 2 :])))
    return Target("unknown")


def _api_target(parts: list[str], kind: str) -> Target:
    # An id has one part or two: two, unless only the second place holds a verb. "org/tree" is the name
    # of a repository: every verb but "refs" wants a revision after it.
    split = _BOTH_PARTS
    for size in (_BOTH_PARTS, 1):
        verb = parts[size] if len(parts) > size else ""
        if verb == "refs" or (verb in _VERBS and len(parts) > size + 1):
            split = size
            break
    name, rest = kind + "/".join(parts[:split]), parts[split:]
    if not rest:
        return Target("info", name)
    revision = _text(rest[1]) if len(rest) > 1 else "main"
    route = "info" if rest[0] == "revision" else rest[0]
    return Target(route, name, revision, _text("/".join(rest[2:])))


def _text(part: str) -> str:
    return unquote(part, errors="surrogateescape")


def answer(registry: Registry, request: Request, target: Target) -> Response:
    """Return the answer to ``request``, refusals included."""
    try:
        if target.route == "cdn":
            return from_cdn(registry, request)
        return _of_hub(registry, request, target)
    except RefusedError as refused:
        return refused.response


def _of_hub(registry: Registry, request: Request, target: Target) -> Response:
    if request.token in registry.expired:
        return refusal(401, _STRANGER)
    match target.route:
        case "list":
            return _all_of(registry, request, target.path)
        case "collection":
            return _collection(registry, target)
        case "whoami":
            return _whoami(registry, request)
        case "unknown":
            return refusal(404, "Not Found")
        case _:
            return _of_repository(registry, request, target)


def _of_repository(registry: Registry, request: Request, target: Target) -> Response:
    repository = _visible_repository(registry, request, target)
    if target.route == "refs":
        return json_answer(listing.refs(repository))
    commit = repository.find(target.revision)
    if commit is None:
        return refusal(404, f"Invalid rev id: {target.revision}", "RevisionNotFound")
    match target.route:
        case "resolve":
            response = _resolve(registry, request, repository, commit, target.path)
        case "info":
            response = _info(registry, request, repository, commit)
        case "tree":
            response = _tree(registry, request, target, repository, commit)
        case "paths-info":
            response = _paths_info(registry, request, repository, commit)
        case _:
            response = _page(registry, request, list(listing.history(commit)))
    return response


def _visible_repository(registry: Registry, request: Request, target: Target) -> Repository:
    """Return the repository, when the request may know that it exists.

    Raises:
        RefusedError: It has moved; or, with the Hub's own wording: who sends no token is not told
            whether a repository is private or missing.
    """
    name, token = target.repository, request.token
    new = registry.renamed.get(name)
    if new is not None and name not in registry.repositories:
        query = f"?{request.query_text}" if request.query_text else ""
        raise RefusedError(redirect(307, request.path.replace(f"/{name}", f"/{new}", 1) + query))
    if token and registry.tokens and token not in registry.tokens:
        raise RefusedError(refusal(401, "Invalid credentials in Authorization header"))
    repository = registry.repositories.get(name)
    if repository is not None and (not repository.private or opens(registry, request, repository)):
        return repository
    if token:
        raise RefusedError(refusal(404, "Repository not found", "RepoNotFound"))
    raise RefusedError(refusal(401, _STRANGER))


def opens(registry: Registry, request: Request, repository: Repository) -> bool:
    """Return whether the request's token opens a private or gated ``repository``."""
    return repository.id in registry.tokens.get(request.token, ())


def _masked(registry: Registry, request: Request, repository: Repository) -> bool:
    closed = bool(repository.gated) and not opens(registry, request, repository)
    return repository.masked or closed


def _require_enabled(repository: Repository) -> None:
    if repository.disabled:
        raise RefusedError(refusal(403, "Access to this resource is disabled."))


def _info(registry: Registry, request: Request, repository: Repository, commit: Commit) -> Response:
    info = listing.repository_info(repository, commit)
    masked = _masked(registry, request, repository)
    blobs = request.flag("blobs")
    info["siblings"] = listing.siblings(repository, commit, blobs=blobs, masked=masked)
    return json_answer(info)


def _tree(
    registry: Registry, request: Request, target: Target, repository: Repository, commit: Commit
) -> Response:
    _require_enabled(repository)
    masked = _masked(registry, request, repository)
    recursive = request.flag("recursive")
    entries = listing.tree(repository, commit, target.path, recursive=recursive, masked=masked)
    if target.path and not entries:
        message = f"{target.path} does not exist on {target.revision!r}"
        return refusal(404, message, "EntryNotFound")
    if request.flag("expand"):
        entries = [listing.expanded(entry, commit) for entry in entries]
    return _page(registry, request, entries)


def _paths_info(
    registry: Registry, request: Request, repository: Repository, commit: Commit
) -> Response:
    masked = _masked(registry, request, repository)
    form = parse_qs(request.body.decode())
    infos = [
        listing.path_info(repository, commit, path, masked=masked) for path in form.get("paths", [])
    ]
    entries = [entry for entry in infos if entry is not None]
    if form.get("expand", [""])[0].lower() == "true":
        entries = [listing.expanded(entry, commit) for entry in entries]
    return json_answer(entries)


def _whoami(registry: Registry, request: Request) -> Response:
    if request.token not in registry.tokens:
        return refusal(401, _STRANGER)
    return json_answer({"type": "user", "name": "loopback"})


def _all_of(registry: Registry, request: Request, kind: str) -> Response:
    author, search = request.value("author"), request.value("search").lower()
    infos = [
        listing.repository_info(repository, repository.head())
        for _, repository in sorted(registry.repositories.items())
        if bool(kind) == (repository.kind == "dataset")
        and (not author or repository.name.startswith(f"{author}/"))
        and search in repository.name.lower()
        and (not repository.private or opens(registry, request, repository))
    ]
    return _page(registry, request, infos)


def _collection(registry: Registry, target: Target) -> Response:
    collection = registry.collections.get(target.path)
    if collection is None:
        return refusal(404, "Collection not found")
    return json_answer(collection)


def _page(registry: Registry, request: Request, items: list[Any]) -> Response:
    size = min(registry.page_size, int(request.value("limit") or registry.page_size))
    start = int(request.value("cursor") or 0)
    response = json_answer(items[start : start + size])
    if start + size < len(items):
        terms = {name: values[0] for name, values in request.query.items()}
        terms["cursor"] = str(start + size)
        address = f"{registry.endpoint}{request.path}?{urlencode(terms)}"
        response.headers["Link"] = f'<{address}>; rel="next"'
    return response


def _resolve(
    registry: Registry, request: Request, repository: Repository, commit: Commit, path: str
) -> Response:
    """Return the file's bytes, or for LFS a redirect to a signed address on the CDN."""
    _require_enabled(repository)
    if repository.gated and not opens(registry, request, repository):
        status = 403 if request.token else 401
        message = f"Access to {repository.kind} {repository.name} is restricted."
        return refusal(status, message, "GatedRepo")
    entry = commit.files.get(path)
    if entry is None:
        response = refusal(404, "Entry not found", "EntryNotFound")
    elif entry.lfs:
        response = redirect(302, signed_address(registry, repository, path, entry.content))
        response.headers |= {
            "Accept-Ranges": "bytes",
            "X-Linked-Size": str(entry.content.size),
            "X-Linked-ETag": f'"{entry.content.sha256}"',
        }
    else:
        response = ranged(entry.content, request.range)
        response.headers["ETag"] = f'"{entry.content.git_oid}"'
    response.headers["X-Repo-Commit"] = commit.id
    return response


def signed_address(registry: Registry, repository: Repository, path: str, content: Content) -> str:
    """Return an address on the CDN's port from which ``content`` can be had for a while."""
    key = f"/{repository.internal_id}/{content.sha256}"
    registry.linked[key] = content
    expires = f"{time.time() + registry.link_seconds:.3f}"
    signature = _sign(key, repository.id, path, expires)
    terms = {"repo": repository.id, "file": path, "Expires": expires, "Signature": signature}
    query = urlencode(terms, quote_via=quote, errors="surrogateescape")
    return f"{registry.cdn}{key}?{query}"


def from_cdn(registry: Registry, request: Request) -> Response:
    """Return the bytes behind a signed address; the CDN knows nothing of repositories or tokens."""
    terms = [request.value(name) for name in ("repo", "file", "Expires")]
    # The signature first: only what the hub itself has written is a number.
    if not hmac.compare_digest(_sign(request.path, *terms), request.value("Signature")):
        return refusal(403, "SignatureDoesNotMatch")
    if float(terms[-1]) < time.time():
        return refusal(403, "Request has expired")
    content = registry.linked.get(request.path)
    if content is None:
        return refusal(404, "NoSuchKey")
    response = ranged(content, request.range)
    response.headers["ETag"] = f'"{content.sha256}"'
    return response


def _sign(*terms: str) -> str:
    text = "\x00".join(terms).encode("utf-8", "surrogateescape")
    return hmac.new(_SIGNING_KEY, text, hashlib.sha256).hexdigest()


def ranged(content: Content, header: str) -> Response:
    """Return a response with the bytes that ``header`` asks for: 200, 206, or 416.

    Several ranges at once are answered with the whole file, which RFC 9110 (14.2) allows.
    """
    headers = {"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes"}
    match = _ONE_RANGE.match(header)
    if match is None or header == "bytes=-":
        response = Response(200, headers)
        response.carry(Span(content, 0, content.size))
        return response
    first, last = match.groups()
    if first:
        start, stop = int(first), min(content.size, int(last) + 1 if last else content.size)
    else:
        start, stop = max(0, content.size - int(last)), content.size
    if start >= stop:
        response = refusal(416, "Range Not Satisfiable")
        response.headers["Content-Range"] = f"bytes */{content.size}"
        return response
    response = Response(206, headers)
    response.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{content.size}"
    response.carry(Span(content, start, stop - start))
    return response


HUGGING_FACE: Final = Routes(target_of, answer)
"""The addresses of the Hugging Face Hub."""
