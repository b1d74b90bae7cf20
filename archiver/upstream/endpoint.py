"""Addresses of hubs. Imports nothing of a hub's client."""

from __future__ import annotations

from urllib.parse import urlsplit

from archiver.errors import UsageError
from archiver.text import printable


def checked_endpoint(endpoint: str, usual: str, variable: str) -> str:
    """Return a hub's address without a slash at its end; raise UsageError if it is none.

    ``usual`` is what it may look like, and ``variable`` the one of the environment that names another.
    """
    hint = f"Write it like {usual}; see also the variable {variable}."
    wrong = UsageError(f"{printable(endpoint)} is not the address of a hub.", hint=hint)
    try:
        parts = urlsplit(endpoint)
        (parts.hostname or "").encode("idna")
        _ = parts.port
    except ValueError:
        raise wrong from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise wrong
    if parts.username or parts.password:
        # The endpoint is recorded in manifests, which are for everyone to read.
        raise UsageError("The hub's address may not hold a password; pass --token instead.")
    return endpoint.rstrip("/")
