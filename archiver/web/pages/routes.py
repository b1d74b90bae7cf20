"""Which address is which page, and what is shown where there is none, or the archive is damaged."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from starlette.responses import RedirectResponse
from starlette.routing import Route

from archiver.errors import ArchiverError, DamageError, UsageError
from archiver.web.pages.comparison import ComparisonPage
from archiver.web.pages.health import HealthPages
from archiver.web.pages.held import Held
from archiver.web.pages.hub_links import hub_link
from archiver.web.pages.rendering import STATIC, page, static_answer
from archiver.web.pages.repositories import RepositoriesPage
from archiver.web.pages.repository import RepositoryPage
from archiver.web.pages.revision import RevisionPages

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request
    from starlette.responses import Response

    from archiver.web.serving import Serving

    View = Callable[[Request], Response]

_log = logging.getLogger(__name__)
_NOT_FOUND = 404
_FAILED = 503


def page_routes(serving: Serving) -> list[Route]:
    """Return the pages of an archive. Each view runs in one of the threads for pages."""
    archive = serving.archive
    held = Held(archive)
    repositories = RepositoriesPage(archive)
    revision = RevisionPages(held, serving.proofs)
    health = HealthPages(archive)
    # A name may have slashes: what is below a repository comes before it.
    one = "/repositories/{repository:path}"
    views: tuple[tuple[str, View], ...] = (
        ("/", repositories.answer),
        ("/repositories", repositories.answer),
        (f"{one}/compare", ComparisonPage(held).answer),
        (f"{one}/revisions/{{revision}}/files", revision.files),
        (f"{one}/revisions/{{revision}}/tensors", revision.tensors),
        (f"{one}/revisions/{{revision}}", revision.answer),
        (one, RepositoryPage(held).answer),
        ("/status", health.status),
        ("/fixity", health.fixity),
        ("/plans", health.plans),
        ("/journal", health.journal),
    )
    return [
        Route(f"{STATIC}/{{digest}}/{{name}}", static_answer),
        *(Route(path, _explained(serving, view)) for path, view in views),
    ]


def not_found(request: Request, serving: Serving) -> Response:
    """Return where the Hub's own page of this address is here, or the page that says that there is none."""
    with suppress(ArchiverError):  # nothing can be told of what is held
        href = hub_link(request, serving.holdings.catalog())
        if href:
            return RedirectResponse(href)
    archive = serving.archive
    facts = {"title": "There is no such page", "message": "", "hint": ""}
    return page(request, "problem.html", facts, archive=archive, status=_NOT_FOUND)


def _explained(serving: Serving, view: View) -> Callable[[Request], Awaitable[Response]]:
    """Return the view, whose errors are pages that say what happened and what to do next."""
    archive = serving.archive

    def answer(request: Request) -> Response:
        try:
            # What is away has no pages: each would say that nothing is held, and nothing ever happened.
            archive.require_there()
            return view(request)
        except UsageError as error:
            status, title = _NOT_FOUND, "This is not held here"
            message, hint = error.message, error.hint
        except DamageError as error:
            status, title = _FAILED, "This cannot be read"
            message, hint = error.message, error.hint
        except ArchiverError as error:
            status, title = _FAILED, "This could not be shown"
            message, hint = error.message, error.hint
        _log.info("%s: %s", request.url.path, message)
        facts = {"title": title, "message": message, "hint": hint}
        return page(request, "problem.html", facts, archive=archive, status=status)

    async def answer_in_thread(request: Request) -> Response:
        return await serving.threads.page(answer, request)

    return answer_in_thread
