"""How a page is made: the templates and what they may call, the static files, the headers of an answer.

Everything that a template shows is foreign until it went through ``text``, and is escaped besides. A page
has no style and no script of its own: its policy allows the files of ``static/`` and nothing else.
"""

from __future__ import annotations

import functools
import hashlib
import re
import shlex
from importlib import resources
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import quote, urlencode

from jinja2 import Environment, FunctionLoader, StrictUndefined, pass_context
from markupsafe import Markup, escape
from starlette.responses import HTMLResponse, Response

from archiver.archive.places import place_name
from archiver.text import human_bytes, human_share, plural, printable, seconds_of, utc_now

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jinja2.runtime import Context
    from starlette.requests import Request

    from archiver.archive.archive import Archive

POLICY: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; "  # the search asks while one types
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
NAVIGATION: Final[tuple[tuple[str, str], ...]] = (
    ("Repositories", "/repositories"),
    ("Status", "/status"),
    ("Fixity", "/fixity"),
    ("Plans", "/plans"),
    ("Journal", "/journal"),
)
"""What the head of each page leads to: title and path."""
PER_PAGE: Final = 100
"""Rows of a table that is turned over in pages."""
PAGE_MAX: Final = 1 << 20
STATIC: Final = "/static"
_TYPES: Final = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
}
_PARTED: Final = re.compile(r"([./_-])(?=[^./_-])")
_DAY: Final = 86400
_SHORT: Final = 12
_ARCHIVE: Final = "ARCHIVE"
_CUT_AT: Final = (80, 120, 200)
"""Signs of a place's name that templates show: a longer one is cut off."""
_NO_BREAK: Final = "\u00a0"
BAR: Final = 100.0
"""The length of a bar in the units of its drawing."""
_LEAST: Final = 0.6
"""What is there at all is seen."""


# ---- an answer


def page(
    request: Request,
    template: str,
    facts: Mapping[str, Any],
    *,
    archive: Archive,
    status: int = 200,
) -> Response:
    """Return a page, with the headers that keep it to itself."""
    path = request.url.path.rstrip("/") or NAVIGATION[0][1]
    shows_paths = request.app.state.shows_paths
    body = (
        environment()
        .get_template(template)
        .render(
            **facts,
            archive=archive.info,
            place=archive.store.address if shows_paths else _ARCHIVE,
            shows_paths=shows_paths,
            now=utc_now(),
            navigation=[
                Link(title, target, current=path == target or path.startswith(f"{target}/"))
                for title, target in NAVIGATION
            ],
        )
    )
    if not shows_paths:
        body = _without_paths(body, archive)
    headers = {
        "Content-Security-Policy": POLICY,
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-cache",
    }
    return HTMLResponse(body, status, headers)


def _without_paths(body: str, archive: Archive) -> str:
    """Return a page that does not say where the archive lies, whichever part of it said so.

    ``ARCHIVE`` stands there, in commands, places and messages. What is an address of this server stays.
    """
    name, address = place_name(archive.store), archive.store.address
    told = {text for text in (name, address, name.partition(":")[2]) if text.strip("/")}
    told |= set(map(shlex.quote, told))
    told = {printable(text, limit) for text in told for limit in (len(text), *_CUT_AT)}
    # The longest first: one may be in another.
    for text in sorted(told, key=len, reverse=True):
        shown = re.escape(str(escape(text)))
        body = re.sub(rf"""(?<![\w./"-]){shown}(?![\w-])""", _ARCHIVE, body)
    return body


class Link(NamedTuple):
    """Where something leads; ``current`` if one is there."""

    title: str
    href: str
    current: bool = False


class Paging(NamedTuple):
    """Which part of a list is shown: the ``page`` of ``pages``, rows ``first`` to ``last`` of ``rows``."""

    page: int
    pages: int
    first: int
    last: int
    rows: int
    previous: str
    next: str

    @property
    def begin(self) -> int:
        """The number of rows before this page."""
        return self.first - 1 if self.rows else 0


def paging(request: Request, rows: int, per_page: int = PER_PAGE, key: str = "page") -> Paging:
    """Return the part of a list of so many rows that the query's ``key`` asks for."""
    pages = max(1, -(-rows // per_page))
    asked = request.query_params.get(key, "")
    number = (
        int(asked) if asked.isascii() and asked.isdigit() and len(asked) < len(str(PAGE_MAX)) else 1
    )
    number = min(max(number, 1), pages)
    first = (number - 1) * per_page + 1 if rows else 0
    return Paging(
        page=number,
        pages=pages,
        first=first,
        last=min(number * per_page, rows),
        rows=rows,
        previous=with_query(request, **{key: str(number - 1)}) if number > 1 else "",
        next=with_query(request, **{key: str(number + 1)}) if number < pages else "",
    )


def with_query(request: Request, **changes: str) -> str:
    """Return the address of this page with other values in its query; ``""`` takes one out."""
    fields = {key: value for key, value in request.query_params.items() if key not in changes}
    fields |= {key: value for key, value in changes.items() if value}
    query = urlencode({key: value for key, value in fields.items() if value})
    path = quote(request.url.path, safe="/:@")
    return f"{path}?{query}" if query else path


# ---- static files: their digest is in their address, so that they may be kept for ever


class StaticFile(NamedTuple):
    """A file of ``static/``: its address, what it holds, and of which type it is."""

    href: str
    data: bytes
    type: str


@functools.cache
def static_files() -> dict[str, StaticFile]:
    """Return the files by name."""
    files = {}
    for entry in sorted((resources.files("archiver.web.pages") / "static").iterdir(), key=str):
        data, suffix = entry.read_bytes(), entry.name.rpartition(".")[2]
        digest = hashlib.sha256(data).hexdigest()[:_SHORT]
        href = f"{STATIC}/{digest}/{entry.name}"
        files[entry.name] = StaticFile(href, data, _TYPES[suffix])
    return files


def static_answer(request: Request) -> Response:
    """Return a static file; 404 if there is none of this digest and name."""
    file = static_files().get(request.path_params["name"])
    if file is None or file.href != request.url.path:
        return Response("There is no such file.\n", 404, media_type="text/plain")
    headers = {
        "Cache-Control": "public, max-age=31536000, immutable",
        "X-Content-Type-Options": "nosniff",
    }
    return Response(file.data, headers=headers, media_type=file.type)


# ---- the templates and what they may call


@functools.cache
def environment() -> Environment:
    """Return the templates."""
    folder = resources.files("archiver.web.pages") / "templates"
    made = Environment(
        autoescape=True,
        loader=FunctionLoader(lambda name: (folder / name).read_text(encoding="utf-8")),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    filters: dict[str, Any] = {
        "text": printable,
        "size": lambda count: human_bytes(count).replace(" ", _NO_BREAK),
        "count": "{:,}".format,
        "day": _day,
        "moment": _moment,
        "ago": _ago,
        "short": lambda digest: printable(digest[:_SHORT]),
        "command": lambda argv: printable(shlex.join(argv), 2000),
        "name": _breakable,
        "shape": lambda sides: " \u00d7 ".join(f"{side:,}" for side in sides) or "scalar",
    }
    functions: dict[str, Any] = {
        "share": _share,
        "plural": plural,
        "part": _part_of,
        "static": lambda name: static_files()[name].href,
        "repository_href": repository_href,
        "revision_href": revision_href,
    }
    made.filters.update(filters)
    made.globals.update(functions)
    return made


def repository_href(repository: str) -> str:
    """Return the address of a repository's page."""
    return f"/repositories/{quote(repository, safe='/:')}"


def revision_href(repository: str, revision: str, *below: str) -> str:
    """Return the address of the page of a revision, or of one below it."""
    return "/".join((f"{repository_href(repository)}/revisions/{quote(revision, safe='')}", *below))


def _breakable(text: str, limit: int = 200) -> Markup:
    """Return a name or path that is harmless, and that may be broken after the signs that part it."""
    return Markup(_PARTED.sub(r"\1<wbr>", str(escape(printable(text, limit)))))  # noqa: S704 - escaped


def _share(part: float, whole: float) -> str:
    """Return a part in percent; what is there at all is not nothing."""
    share = human_share(part, whole)
    return "<1%" if share == "0%" and part > 0 else share


def _part_of(part: float, whole: float) -> float:
    """Return the length of a bar that stands for a part of a whole."""
    if whole <= 0 or part <= 0:
        return 0.0
    return round(min(max(BAR * part / whole, _LEAST), BAR), 2)


def _day(time: str) -> str:
    return printable(time[:10])


def _moment(time: str) -> str:
    return printable(time[:16].replace("T", " ") + " UTC") if seconds_of(time) else printable(time)


@pass_context
def _ago(context: Context, time: str) -> str:
    """Return how long ago a time was, in days, months or years."""
    begin, end = seconds_of(time), seconds_of(context["now"])
    if begin is None or end is None:
        return "at no time" if time else "never"
    days = max(end - begin, 0) // _DAY
    if days < 1:
        return "today"
    for limit, divisor, noun in ((60, 1, "day"), (730, 30, "month")):
        if days < limit:
            return f"{plural(days // divisor, noun)} ago"
    return f"{plural(days // 365, 'year')} ago"
