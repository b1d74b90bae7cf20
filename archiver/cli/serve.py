"""``archiver serve``."""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from archiver.cli import output
from archiver.cli.options import Size, common, open_archive
from archiver.errors import ExitCode, SkippedError, UsageError
from archiver.text import human_bytes

if TYPE_CHECKING:
    from archiver.errors import ArchiverError
    from archiver.web.serving import Options

_CACHE: Final = 256 << 20
_CACHE_LEAST: Final = 32 << 20
_CONNECTIONS: Final = 256
_VARIABLE: Final = "ARCHIVER_SERVE_TOKEN"
_TOKEN_MAX: Final = 512
_TOKEN_LEAST: Final = 12


@click.command(epilog="Example: archiver serve -C weights --port 8080")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8080,
    show_default=True,
    help="The port; 0 takes a free one.",
)
@click.option(
    "--token-file",
    metavar="FILE",
    type=Path,
    help=f"A file with the token that clients must show. [env: {_VARIABLE} holds the token itself]",
)
@click.option("--public", is_flag=True, help="Serve other machines without a token.")
@click.option(
    "--allowed-host",
    "allowed_hosts",
    metavar="NAME",
    multiple=True,
    help="A further name by which clients may call this server; repeatable.",
)
@click.option(
    "--cache",
    type=Size(_CACHE_LEAST),
    help=f"Memory for what was decoded. [default: {human_bytes(_CACHE)}]",
)
@click.option(
    "--limit-connections",
    metavar="N",
    type=click.IntRange(1, 10_000),
    default=_CONNECTIONS,
    show_default=True,
    help="Connections that may be open at a time.",
)
@common
def command(
    host: str,
    port: int,
    token_file: Path | None,
    public: bool,
    allowed_hosts: tuple[str, ...],
    cache: int | None,
    limit_connections: int,
) -> None:
    """Serve the archive to other machines as a hub, straight from its packs.

    Clients of Hugging Face find it with HF_ENDPOINT=http://HOST:PORT and need nothing else. Nothing is
    restored, and nothing is written but what was met damaged, to the journal: every segment is proven
    before a byte of it is sent. Prints its address first. Stops at SIGTERM or Ctrl-C, once answers that
    are on their way have ended.
    """
    archive = open_archive(reading=True)
    token = _token(token_file)
    _require_private(host, token, public=public)
    try:
        from archiver.archive.serving.healing import Healer
        from archiver.archive.serving.segment_cache import SegmentCache
        from archiver.web.app import create_app
        from archiver.web.server import listen, serve
        from archiver.web.serving import Serving
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("archiver"):
            raise
        from archiver.smoke.libraries import install_hint

        raise SkippedError(f"Not installed: {error.name}.", hint=install_hint("serve")) from None
    listener = listen(host, port)
    address = _address(listener)
    # A further name is that of a proxy, behind which others are.
    shows_paths = _is_loopback(host) and not public and not allowed_hosts
    options = _options(host, token, allowed_hosts, limit_connections, shows_paths=shows_paths)
    healer = Healer(archive, on_unwritten=_say_unwritten)
    serving = Serving(archive, SegmentCache(cache or _CACHE), options, healer)
    try:
        stopped_by = serve(
            create_app(serving), listener, limit_connections, on_start=lambda: _say(address)
        )
    finally:
        serving.threads.close()
        serving.cache.close()
        healer.close()
    if stopped_by != signal.SIGTERM:
        output.exit_with(ExitCode.INTERRUPTED)


def _say(address: str) -> None:
    output.record("serving", address=address)
    output.line(address)
    output.flush()


def _say_unwritten(error: ArchiverError) -> None:
    output.remark(f"Damage was met, and the journal cannot be told of it: {error.message}")


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _options(
    host: str,
    token: str,
    allowed_hosts: tuple[str, ...],
    connections: int,
    *,
    shows_paths: bool,
) -> Options:
    from archiver.web.serving import Options

    names = {host, socket.gethostname(), *allowed_hosts}
    hosts = frozenset(name.lower().strip("[]").rstrip(".") for name in names if name)
    return Options(token, hosts, connections, shows_paths)


def _token(file: Path | None) -> str:
    """Return the token that clients must show, ``""`` for none.

    Raise UsageError for a poor one, DeniedError if others than its owner can read the file.
    """
    from archiver.night.secret import secret_text, title_of
    from archiver.plan.document import SecretName

    if file is None:
        told, where = os.environ.get(_VARIABLE), f"The variable {_VARIABLE}"
        if told is None:
            return ""
    else:
        secret = SecretName("file", str(file.absolute()))
        told, where = secret_text(secret, Path()), title_of(secret)
    token = told.strip()
    fits = token.isascii() and token.isprintable() and " " not in token
    if not fits or not _TOKEN_LEAST <= len(token) <= _TOKEN_MAX:
        raise UsageError(
            f"{where} holds no token: one word of {_TOKEN_LEAST} to {_TOKEN_MAX} signs.",
            hint="Make one with: openssl rand -hex 32",
        )
    return token


def _require_private(host: str, token: str, *, public: bool) -> None:
    """Raise UsageError if others could read everything, and nobody has said that they may."""
    if token or public or _is_loopback(host):
        return
    raise UsageError(
        f"At {host} other machines could read all that is held, also models whose publishers let only "
        "some people have them.",
        hint=f"Give a token (--token-file or {_VARIABLE}), or say --public.",
    )


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
