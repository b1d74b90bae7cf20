"""The application: the Hub's addresses first, then the pages, all behind the checks of ``access``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException

from archiver.web.access import Guarded
from archiver.web.hub_api import HubApi
from archiver.web.hub_routes import HubRoute
from archiver.web.pages.routes import not_found as no_page
from archiver.web.pages.routes import page_routes
from archiver.web.refusals import Refusal, not_found

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp

    from archiver.web.serving import Serving


def create_app(serving: Serving) -> ASGIApp:
    """Return the application that serves an archive.

    A page is a route of ``page_routes``, and asked only for what is none of the Hub's addresses:
    ``/api/…`` and ``/[datasets/]Org/Name/resolve/…`` never come to it.
    """

    async def failed(request: Request, error: Exception) -> Response:
        """Return a refusal: starlette's own, such as of an address without a route, as ours."""
        if isinstance(error, Refusal):
            return error.response()
        assert isinstance(error, HTTPException)
        if error.status_code != not_found().status:
            return Refusal(error.status_code, error.detail, headers=error.headers).response()
        if "text/html" in request.headers.get("accept", ""):
            return await serving.threads.call(no_page, request, serving)
        return not_found().response()

    application = Starlette(
        routes=[HubRoute(HubApi(serving)), *page_routes(serving)],
        exception_handlers={Refusal: failed, HTTPException: failed},
    )
    application.router.redirect_slashes = False
    application.state.shows_paths = serving.options.shows_paths
    return Guarded(application, serving.options)
