"""Who may ask, and by which name: the Host of a request, the token, and headers that keep browsers safe.

A page elsewhere can have a browser ask this server under a name of its own (DNS rebinding), so names count
as little as tokens: only those that the server was told are its own are answered.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
import logging
import re
import time
from typing import TYPE_CHECKING, Final

from starlette.requests import ClientDisconnect

from archiver.text import printable
from archiver.web.refusals import Refusal

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from archiver.web.serving import Options

_log = logging.getLogger(__name__)

LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_HOST: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9._-]{1,253}))(?::[0-9]{1,5})?")
_SAFETY: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'; sandbox"),
    (b"cache-control", b"private, no-cache"),
)
"""Headers of every answer that does not say otherwise; a page says what it needs."""
_SHOWN: Final = 300


class Guarded:
    """An application behind the checks that every request must pass, with a log of its answers."""

    def __init__(self, application: ASGIApp, options: Options) -> None:
        self._application = application
        self._options = options

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        answer = _Answer(scope, send)
        try:
            try:
                require_allowed(scope, self._options)
            except Refusal as refusal:
                await refusal.response()(scope, receive, answer.send)
            else:
                await self._application(scope, receive, answer.send)
        except ClientDisconnect:
            return  # in the middle of its question: nobody waits for an answer
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody outside is shown it
            _log.info("unexpected: %s: %s", type(error).__name__, error)
            if answer.status:
                return  # the server closes a connection whose answer is not complete
            unexpected = Refusal(500, "Something that archiver did not expect; its log says more.")
            await unexpected.response()(scope, receive, answer.send)
        finally:
            answer.log()


def require_allowed(scope: Scope, options: Options) -> None:
    """Refuse a request to another name than this server's, or without the token that it wants."""
    headers: dict[bytes, list[bytes]] = {}
    for name, value in scope["headers"]:
        headers.setdefault(name, []).append(value)
    _require_host(headers.get(b"host", []), scope.get("server"), options)
    if options.token:
        _require_token(headers, options.token)


def _require_host(told: list[bytes], server: tuple[str, int] | None, options: Options) -> None:
    match = _HOST.fullmatch(told[0].decode("latin-1")) if len(told) == 1 else None
    if match is None:
        raise Refusal(400, "The request does not name the host that it is for, once.")
    host = (match[1] or match[2]).lower().rstrip(".")
    if host in LOOPBACK_NAMES or host in options.hosts or _is_address_of(host, server):
        return
    raise Refusal(
        421,
        f"This server does not go by the name {host}. "
        f"Whoever runs it can allow that with --allowed-host {host}.",
    )


def _is_address_of(host: str, server: tuple[str, int] | None) -> bool:
    """Return whether it is the very address that the connection came to, as a number.

    No name leads there, so that no page elsewhere can have it as its own.
    """
    try:
        return server is not None and ipaddress.ip_address(host) == ipaddress.ip_address(server[0])
    except ValueError:
        return False


def _require_token(headers: dict[bytes, list[bytes]], token: str) -> None:
    told = headers.get(b"authorization", [])
    page = b"text/html" in b",".join(headers.get(b"accept", []))
    scheme = 'Basic realm="archiver", charset="UTF-8"' if page else 'Bearer realm="archiver"'
    challenge = {"WWW-Authenticate": scheme}
    if not told:
        raise Refusal(
            401,
            "This archive is served to those who have its token: set HF_TOKEN to it, or give it as the "
            "password in a browser.",
            "GatedRepo",
            challenge,
        )
    given = _token_in(told[0]) if len(told) == 1 else b""
    if not hmac.compare_digest(given, token.encode()):
        raise Refusal(401, "Invalid credentials in Authorization header", headers=challenge)


def _token_in(header: bytes) -> bytes:
    """Return the token of a Bearer, or the password of a Basic, authorization; ``b""`` if there is none."""
    scheme, _, rest = header.partition(b" ")
    match scheme.lower():
        case b"bearer":
            return rest.strip()
        case b"basic":
            try:
                return base64.b64decode(rest.strip(), validate=True).partition(b":")[2]
            except binascii.Error:
                return b""
        case _:
            return b""


class _Answer:
    """An answer on its way: it gets the headers of safety, and is counted for the log."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._scope = scope
        self._send = send
        self._began = time.monotonic()
        self._bytes = 0
        self.status = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = list(message.get("headers", []))
            told = {name.lower() for name, _ in headers}
            headers += [pair for pair in _SAFETY if pair[0] not in told]
            message = {**message, "headers": headers}
        elif message["type"] == "http.response.body":
            self._bytes += len(message.get("body", b""))
        await self._send(message)

    def log(self) -> None:
        """Write a line of the access log. It has no query and no headers: these may hold secrets."""
        if not _log.isEnabledFor(logging.INFO):
            return
        client = (self._scope.get("client") or ("-",))[0]
        _log.info(
            "%s %s %s %d %d bytes %.3f s",
            client,
            self._scope["method"],
            printable(self._scope["path"], _SHOWN),
            self.status,
            self._bytes,
            time.monotonic() - self._began,
        )
