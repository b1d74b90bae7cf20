"""Addresses of repositories as the Hub's own pages have them, for whoever types or pastes one here.

``/[datasets/]Org/Name``, ``…/tree/REVISION[/FOLDER]`` and ``…/blob/REVISION/PATH`` lead to the pages of
what is held by that name. They come after every other address, so that they hide none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes, urlencode

from archiver.names import DATASET, MODEL
from archiver.web.hub_routes import raw_path_of
from archiver.web.pages.rendering import repository_href, revision_href

if TYPE_CHECKING:
    from starlette.requests import Request

    from archiver.web.holdings import Catalog, HeldRepository

_VIEWS: Final = frozenset({"tree", "blob"})
_SIZES: Final = (2, 1)
"""Parts of a repository's name, the usual number first."""


def hub_link(request: Request, catalog: Catalog) -> str:
    """Return the page here of what an address of the Hub's pages names; ``""`` if that is not held.

    It is a path of this server, made of names that are held: nothing of the request is in it but what a
    list of files is searched for.
    """
    if request.method not in {"GET", "HEAD"}:
        return ""
    # As it was sent: a revision may hold slashes.
    parts = raw_path_of(request.scope).strip("/").split("/")
    kind = MODEL
    if parts[0] == "datasets":
        kind, parts = DATASET, parts[1:]
    for size in _SIZES:
        repository = catalog.find(kind, "/".join(map(_text, parts[:size])))
        if repository is not None and len(parts) >= size:
            return _page_of(repository, parts[size:])
    return ""


def _page_of(repository: HeldRepository, rest: list[str]) -> str:
    name = repository.source.spelling
    if not rest:
        return repository_href(name)
    view, *below = rest
    revision = repository.find(_text(below[0])) if view in _VIEWS and below else None
    if revision is None:
        return ""
    path = "/".join(map(_text, below[1:]))
    if not path:
        return revision_href(name, revision.commit)
    folder = "/" if view == "tree" else ""
    query = urlencode({"q": f"{path}{folder}"}, errors="replace")
    return f"{revision_href(name, revision.commit, 'files')}?{query}"


def _text(part: str) -> str:
    return unquote_to_bytes(part).decode("utf-8", "replace")
