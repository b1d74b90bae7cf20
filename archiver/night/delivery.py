"""Pings in the manner of healthchecks, and notices by apprise: bounded in time and size, and soft.

What cannot be delivered is told in the night's lines, and changes nothing else: whoever watches pings
hears of their absence by that alone.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import urlsplit, urlunsplit

from archiver.errors import ArchiverError
from archiver.night.result import StepError
from archiver.night.secret import read_urls, title_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from archiver.plan.document import SecretName

BODY_MAX: Final = 10_000
"""Bytes of a message: the beginning, which is the verdict, and the end are kept."""
SECONDS: Final = 30.0
"""A delivery is given up after so long, whatever it waits for."""
Tone = Literal["info", "success", "warning", "failure"]
"""How a notice is marked, in apprise's words: by it services choose a colour, or whom they wake."""
_COURIER: Final = Path(__file__).with_name("courier.py")
_WORDS: Final = {
    "unreachable": "it could not be reached",
    "refused": "the service did not take it",
    "no-apprise": "the package apprise is not installed: pip install 'weights-archiver[notices]'",
    "not-understood": "apprise does not know such a URL",
    "not-http": "a ping goes to http:// or https:// only",
    "late": f"it took longer than {SECONDS:.0f} seconds",
    "broken": "the process that was to deliver it ended",
}


def ping(secrets: Iterable[SecretName], folder: Path, end: str, body: str) -> tuple[StepError, ...]:
    """Tell every URL that the night begins (``end`` is ``start``) or how it ended (its exit code).

    Return what could not be told.
    """
    return tuple(_deliver("ping", secrets, folder, end, "", body))


def notify(
    secrets: Iterable[SecretName], folder: Path, title: str, body: str, tone: Tone = "info"
) -> tuple[StepError, ...]:
    """Send a notice to every URL, by apprise; return what could not be sent."""
    return tuple(_deliver("notify", secrets, folder, "", title, body, tone))


def _deliver(
    how: Literal["ping", "notify"],
    secrets: Iterable[SecretName],
    folder: Path,
    end: str,
    title: str,
    body: str,
    tone: Tone = "info",
) -> Iterator[StepError]:
    for secret in secrets:
        try:
            urls = read_urls(secret, folder)
        except ArchiverError as error:
            yield StepError(error.message, error.hint, 0, how)
            continue
        for number, url in enumerate(urls, 1):
            address = _with_end(url, end) if end else url
            message = {"how": how, "url": address, "title": title, "body": _cut(body), "tone": tone}
            word = _sent(message)
            if word != "delivered":
                which = f", URL {number}" if len(urls) > 1 else ""
                reason = _WORDS.get(word, f"it was answered with {word.replace('-', ' ').upper()}")
                yield StepError(f"{title_of(secret)}{which}: {reason}.", "", 0, how)


def _with_end(url: str, end: str) -> str:
    """Return the URL with a further part of its path, before whatever is asked of it."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{end}"))


def _cut(body: str) -> str:
    data = body.encode()
    if len(data) <= BODY_MAX:
        return body
    half = BODY_MAX // 2 - 8
    first, last = data[:half].decode(errors="ignore"), data[-half:].decode(errors="ignore")
    return f"{first}\n…\n{last}"


def _sent(message: dict[str, str]) -> str:
    """Return how a delivery went, in a word; it takes no longer than ``SECONDS``."""
    child = subprocess.Popen(  # noqa: S603 - this interpreter, a file of ours, and no shell
        [sys.executable, "-I", str(_COURIER)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        out = child.communicate(json.dumps(message).encode(), SECONDS)[0]
    except subprocess.TimeoutExpired:
        return "late"
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                pipe.close()
    words = out.decode(errors="replace").split()
    return words[-1][:40] if words and words[-1].isascii() and words[-1].isprintable() else "broken"
