"""Which hub is asked, and whether any may be. Imports nothing of the hub's client."""

from __future__ import annotations

import os

from archiver.errors import NetworkError
from archiver.upstream.endpoint import checked_endpoint

DEFAULT_ENDPOINT = "https://huggingface.co"
_TRUE = frozenset({"1", "ON", "YES", "TRUE"})
_OFFLINE_VARIABLES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


def chosen_endpoint(endpoint: str | None = None) -> str:
    """Return the hub's address without a slash at its end: ``endpoint``, ``HF_ENDPOINT`` or the public hub.

    Raise UsageError if it is none.
    """
    chosen = endpoint or os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT
    return checked_endpoint(chosen, DEFAULT_ENDPOINT, "HF_ENDPOINT")


def require_online() -> None:
    """Raise NetworkError where the environment says that no hub may be asked."""
    # The hub's client reads the same two, the second only if the first is not set.
    name = next((name for name in _OFFLINE_VARIABLES if os.environ.get(name)), "")
    if os.environ.get(name, "").upper() in _TRUE:
        raise NetworkError(
            f"Nothing was asked of the hub: {name} is set.",
            hint=f"Unset {name}, or use 'archiver import' on a folder.",
        )
