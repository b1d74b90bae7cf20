"""``/resolve``: a file's bytes, directly or by way of the CDN's port."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archiver.loopback.ranges import ranged
from archiver.loopback.wire import RefusedError, redirect, refusal

if TYPE_CHECKING:
    from archiver.loopback.repository import Commit, Repository
    from archiver.loopback.state import State
    from archiver.loopback.wire import Request, Response


def require_access(state: State, repository: Repository, request: Request) -> None:
    """Raise RefusedError when ``repository`` is disabled, or gated and not opened by the token."""
    if repository.disabled:
        raise RefusedError(refusal(403, "Access to this resource is disabled."))
    if repository.gated and not state.allowed(repository, request.token):
        status = 403 if request.token else 401
        message = f"Access to model {repository.id} is restricted."
        raise RefusedError(refusal(status, message, "GatedRepo"))


def resolve(
    state: State, repository: Repository, commit: Commit, path: str, request: Request
) -> Response:
    """The file ``path``: its bytes, or for LFS a redirect to a signed address on the CDN."""
    require_access(state, repository, request)
    entry = commit.files.get(path)
    if entry is None:
        missing = refusal(404, "Entry not found", "EntryNotFound")
        missing.headers["X-Repo-Commit"] = commit.id
        raise RefusedError(missing)
    if not entry.lfs:
        response = ranged(entry.content, request.range)
        response.headers |= {"X-Repo-Commit": commit.id, "ETag": f'"{entry.content.git_oid}"'}
        return response
    response = redirect(302, state.link(repository, path, entry.content))
    response.headers |= {
        "X-Repo-Commit": commit.id,
        "Accept-Ranges": "bytes",
        "X-Linked-Size": str(entry.content.size),
        "X-Linked-ETag": f'"{entry.content.sha256}"',
    }
    return response


def from_cdn(state: State, request: Request) -> Response:
    """The bytes behind a signed address; the CDN knows nothing of repositories or tokens."""
    content = state.linked(request)
    response = ranged(content, request.range)
    response.headers["ETag"] = f'"{content.sha256}"'
    return response
