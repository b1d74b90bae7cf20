"""Faults on demand: which answer is spoilt, how often, and a count of how often it was.

::

    drop           the connection ends cleanly (FIN) after ``after`` bytes of the body
    reset          the same with a reset (RST), which may also swallow bytes already sent
    stall          nothing comes for ``seconds`` after ``after`` bytes; then the rest
    flip           one bit of the file's byte ``offset`` is wrong
    short          the body and Content-Length lack the last ``count`` bytes
    pad            the body and Content-Length have ``count`` bytes too many
    status         the answer is ``status`` (503 if not given)
    rate_limit     429 with RateLimit, and Retry-After when ``seconds`` is given
    expired        the CDN says that the signature has expired (403)
    etag           ETag and X-Linked-ETag name other bytes
    content_range  Content-Range starts ``count`` bytes after what was asked for
    ignore_range   a Range request gets 200 and the whole file
    gzip           a small file comes compressed, unless the client accepts only identity
    redirect       /resolve leads to ``location``
    range_only     who asks for more than ``count`` bytes at once, or for no range, gets 400 (``status``)
    drip           after ``after`` bytes the body comes byte by byte, ``seconds`` apart
    slow_head      the head begins, and then comes byte by byte for ever, ``seconds`` apart
    interim        103 Early Hints come for ever, ``seconds`` apart
    forge          ``forge(n)``, for n = 1, 2, …, gives a body or None, and headers to set; as ``status``
    call           ``call()`` runs after the answer is made and before it is sent
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Literal

from archiver.loopback.spoil import SPOILERS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from archiver.loopback.routes import Target
    from archiver.loopback.wire import Request, Response

Kind = Literal[
    "drop", "reset", "stall", "flip", "short", "pad", "status", "rate_limit", "expired", "etag",
    "content_range", "ignore_range", "gzip", "redirect", "range_only", "drip", "slow_head",
    "interim", "forge", "call",
]  # fmt: skip

_FILE_ROUTES = frozenset({"resolve", "cdn"})
_ANY_ROUTE = frozenset({"status", "rate_limit", "call"})

Forge = Callable[[int], "tuple[bytes | None, Mapping[str, str | None]]"]
"""The body of the n-th answer, or None to leave it, and headers; one that is None is taken away."""


@dataclass
class Fault:
    """One fault; it strikes the ``times`` answers that match it first, after ``skip`` others.

    ``path`` (a glob over file names) and ``repository`` narrow it; so does ``route``, which is one
    of info, refs, commits, tree, paths-info, list, collection, resolve, cdn. Without a route, a
    fault strikes where files are served, and status, rate_limit and call strike anywhere.
    ``times`` is None for every time. ``hits`` counts. ``status`` is 503 where it is not given.
    """

    kind: Kind
    path: str = ""
    route: str = ""
    repository: str = ""
    method: str = ""
    after: int = 0
    offset: int = 0
    count: int = 1
    status: int = 0
    seconds: float = 0.0
    location: str = ""
    call: Callable[[], object] | None = None
    forge: Forge | None = None
    skip: int = 0
    times: int | None = 1
    hits: int = 0

    def matches(self, request: Request, to: Target) -> bool:
        """Whether this fault is meant for such a request."""
        if self.path and not fnmatchcase(to.path, self.path):
            return False
        if self.repository not in {"", to.repository} or self.method not in {"", request.method}:
            return False
        if self.route:
            return to.route == self.route
        anywhere = self.kind in _ANY_ROUTE and not self.path
        return anywhere or to.route in _FILE_ROUTES


class Faults:
    """The faults that wait for their answer."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> Fault:
        """Arm ``fault``; it is returned so that its ``hits`` can be read later."""
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear(self) -> None:
        """Disarm everything."""
        with self._lock:
            self._faults.clear()

    def apply(self, request: Request, to: Target, response: Response) -> str:
        """Spoil ``response`` by the first fault that fits; the fault's kind, ``""`` if none did."""
        fault = self._take(request, to, response)
        if fault is None:
            return ""
        if fault.call is not None:
            fault.call()
        else:
            SPOILERS[fault.kind].strike(fault, response)
        return fault.kind

    def _take(self, request: Request, to: Target, response: Response) -> Fault | None:
        with self._lock:
            for fault in self._faults:
                if fault.times is not None and fault.hits >= fault.times:
                    continue
                if fault.matches(request, to) and _strikes(fault, request, to, response):
                    if fault.skip:
                        fault.skip -= 1
                        continue
                    fault.hits += 1
                    return fault
        return None


def _strikes(fault: Fault, request: Request, to: Target, response: Response) -> bool:
    """Whether the answer is one that the fault can spoil; only then does it count."""
    if fault.kind == "call":
        # The last page of a listing: the client then has all of it.
        return "Link" not in response.headers
    return SPOILERS[fault.kind].fits(fault, request, to.route, response)
