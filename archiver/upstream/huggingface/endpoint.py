"""Which hub is asked, and whether any may be. Imports nothing of the hub's client."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from archiver.errors import NetworkError, UsageError
from archiver.text import printable

DEFAULT_ENDPOINT = "https://huggingface.co"
_TRUE = frozenset({"1", "ON", "YES", "TRUE"})
_OFFLINE_VARIABLES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


def chosen_endpoint(endpoint: str | None = None) -> str:
    """Return the hub's address without a slash at its end: ``endpoint``, ``HF_ENDPOINT`` or the public hub.

    Raise UsageError if it is none.
    """
    endpoint = endpoint or os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT
    hint = f"Write it like {DEFAULT_ENDPOINT}; see also the variable HF_ENDPOINT."
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


def require_online() -> None:
    """Raise NetworkError where the environment says that no hub may be asked."""
    # The hub's client reads the same two, the second only if the first is not set.
    name = next((name for name in _OFFLINE_VARIABLES if os.environ.get(name)), "")
    if os.environ.get(name, "").upper() in _TRUE:
        raise NetworkError(
            f"Nothing was asked of the hub: {name} is set.",
            hint=f"Unset {name}, or use 'archiver import' on a folder.",
        )
