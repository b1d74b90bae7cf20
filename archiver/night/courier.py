"""A process of its own that takes one message to one URL: whatever hangs there is ended with it.

Run by ``delivery``, never imported. It reads a JSON object from its input (``how``, ``url``, ``title``,
``body``), and says in a word how that went. It says nothing else, for every other word could be a secret.
"""

from __future__ import annotations

import json
import logging
import sys
import urllib.error
import urllib.request

_SECONDS = 10.0
_ANSWER_MAX = 1024


def main() -> None:
    """Deliver, and print how that went."""
    logging.disable(logging.CRITICAL)
    message = json.load(sys.stdin)
    print(_ping(message) if message["how"] == "ping" else _notify(message), flush=True)  # noqa: T201


def _ping(message: dict[str, str]) -> str:
    if not message["url"].startswith(("http://", "https://")):
        return "not-http"
    request = urllib.request.Request(  # noqa: S310 - only http and https, as was just seen
        message["url"],
        data=message["body"].encode(),
        headers={"User-Agent": "archiver", "Content-Type": "text/plain; charset=utf-8"},
        method="POST",
    )
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS) as answer:  # noqa: S310 - likewise
            answer.read(_ANSWER_MAX)
    except urllib.error.HTTPError as error:
        return f"http-{error.code}"
    except (OSError, ValueError):
        return "unreachable"
    return "delivered"


def _notify(message: dict[str, str]) -> str:
    try:
        import apprise  # noqa: PLC0415 - an extra, and slow to import
    except ImportError:
        return "no-apprise"
    notifier = apprise.Apprise()
    if not notifier.add(message["url"]):
        return "not-understood"
    sent = notifier.notify(
        body=message["body"], title=message["title"], notify_type=message["tone"]
    )
    return "delivered" if sent else "refused"


if __name__ == "__main__":
    main()
