"""Which address means what: the Hub's routes, found in the path as it was sent, before it is decoded.

A revision may hold slashes (``refs%2Fpr%2F1``), and a repository may have a name of one part or of two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import unquote_to_bytes

from starlette.routing import BaseRoute, Match

from archiver.names import DATASET, MODEL

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

_VERBS: Final = frozenset(
    {"revision", "refs", "commits", "tree", "paths-info", "auth-check", "resolve", "proof"}
)
_NO_REVISION: Final = frozenset({"refs", "auth-check"})
"""Those that stand alone after the name of a repository."""
_KINDS: Final = {"models": MODEL, "datasets": DATASET}
_BOTH_PARTS: Final = 2
_PAGE: Final = ("repositories", "revisions")
"""An address that begins and goes on so is a page's, of a repository that is itself named "resolve"."""


class Target(NamedTuple):
    """What an address of the Hub names: a route and, as far as the route has them, its parts."""

    route: str
    kind: str = MODEL
    repository: str = ""
    revision: str = "main"
    path: str = ""


def target_of(raw_path: str) -> Target | None:
    """Return what a path names, as it was sent; None if it is none of the Hub's."""
    parts = raw_path.split("/")[1:]
    if parts[:1] == ["api"]:
        return _api_target(parts[1:])
    kind = MODEL
    if parts[:1] == ["datasets"]:
        kind, parts = DATASET, parts[1:]
    for size in (_BOTH_PARTS, 1):
        if parts[size : size + 1] in (["resolve"], ["raw"]) and len(parts) > size + 2:
            name, revision, path = parts[:size], parts[size + 1], parts[size + 2 :]
            if (name[0], revision) == _PAGE:
                return None
            return Target("resolve", kind, _joined(name), _text(revision), _joined(path))
    return None


def _api_target(parts: list[str]) -> Target:
    if parts[:1] == ["collections"]:
        return Target("collection" if parts[1:] else "collections", path=_joined(parts[1:]))
    if parts == ["whoami-v2"]:
        return Target("whoami")
    kind = _KINDS.get(parts[0] if parts else "")
    if kind is None:
        return Target("unknown")
    if len(parts) == 1:
        return Target("list", kind)
    return _repository_target(kind, parts[1:])


def _repository_target(kind: str, parts: list[str]) -> Target:
    # A name has one part or two: two, unless only the second place holds a verb. "org/tree" is the name
    # of a repository, for that verb wants a revision after it.
    split = _BOTH_PARTS
    for size in (_BOTH_PARTS, 1):
        verb = parts[size] if len(parts) > size else ""
        if verb in _NO_REVISION or (verb in _VERBS and len(parts) > size + 1):
            split = size
            break
    name, rest = _joined(parts[:split]), parts[split:]
    if not rest:
        return Target("info", kind, name)
    if rest[0] not in _VERBS or (rest[0] == "auth-check" and rest[1:]):
        return Target("unknown", kind, name)
    revision = _text(rest[1]) if len(rest) > 1 else "main"
    route = "info" if rest[0] == "revision" else rest[0]
    return Target(route, kind, name, revision, _joined(rest[2:]))


def _joined(parts: list[str]) -> str:
    return "/".join(map(_text, parts))


def _text(part: str) -> str:
    """Return a part decoded; what is no UTF-8 becomes signs that no name has."""
    return unquote_to_bytes(part).decode("utf-8", "replace")


class HubRoute(BaseRoute):
    """All addresses of the Hub, for one application; what it is called with has the target in its scope."""

    def __init__(self, application: ASGIApp) -> None:
        self._application = application

    def matches(self, scope: Scope) -> tuple[Match, dict[str, Any]]:
        """Return whether the address is one of the Hub's."""
        if scope["type"] != "http":
            return Match.NONE, {}
        target = target_of(raw_path_of(scope))
        return (Match.NONE, {}) if target is None else (Match.FULL, {"target": target})

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request on."""
        await self._application(scope, receive, send)


def raw_path_of(scope: Scope) -> str:
    """Return the path of a request as it was sent, without its query."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    return raw.partition(b"?")[0].decode("ascii", "replace")
