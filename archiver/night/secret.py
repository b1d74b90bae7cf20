"""Secrets such as a URL that holds a key: read where they lie, and never repeated.

A plan says where a secret lies: in a file that only its owner can read, among the credentials that systemd
hands to a service, or in the environment. No error, log or event has a part of it.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from archiver.errors import DeniedError, UsageError

if TYPE_CHECKING:
    from archiver.plan.document import SecretKind, SecretName

SECRET_MAX: Final = 8192
"""Bytes of a file that holds a secret."""
URLS_MAX: Final = 16
"""URLs of one secret, a line each."""
_NAME: Final = re.compile(r"[A-Za-z0-9_.@:-]{1,255}\Z")
_ENVIRONMENT: Final = "CREDENTIALS_DIRECTORY"


def parse_secret(text: str) -> SecretName:
    """Return where a secret lies: ``file:PATH``, ``credential:NAME``, ``env:VARIABLE``, or just a path.

    Raise UsageError, which does not repeat it, if it is the secret itself.
    """
    from archiver.plan.document import SecretName  # noqa: PLC0415 - only whoever parses needs it

    kind, colon, name = text.partition(":")
    if "://" in text or not text.isprintable():
        raise UsageError(
            "A URL may hold a secret, and the command line is seen by everybody.",
            hint="Write it into a file with chmod 600, and name the file: file:PATH.",
        )
    if colon and kind in {"file", "credential", "env"} and name:
        return SecretName(cast("SecretKind", kind), name)
    return SecretName("file", str(Path(text).absolute()))


def read_urls(secret: SecretName, folder: Path) -> tuple[str, ...]:
    """Return the URLs of a secret, one a line; lines that begin with # are left out.

    A relative name of a file is looked for in ``folder``. Raise UsageError if there is none, DeniedError
    if others than its owner can read the file.
    """
    text = secret_text(secret, folder)
    lines = [line.strip() for line in text.splitlines()]
    urls = tuple(line for line in lines if line and not line.startswith("#"))
    if not urls or len(urls) > URLS_MAX or not all(map(_is_url, urls)):
        raise UsageError(
            f"{title_of(secret)} does not hold URLs, one a line, at most {URLS_MAX}.",
            hint="Nothing of it is shown here, for it may be a secret.",
        )
    return urls


def title_of(secret: SecretName) -> str:
    """Return where the secret lies, for people."""
    kinds = {"file": "The file", "credential": "The credential", "env": "The variable"}
    return f"{kinds[secret.kind]} {secret.name}"


def secret_text(secret: SecretName, folder: Path) -> str:
    """Return what a secret is; raise UsageError or DeniedError as ``read_urls`` does."""
    if secret.kind == "env":
        text = os.environ.get(secret.name, "")
        if not text:
            raise UsageError(f"{title_of(secret)} is not set.", hint="Set it, or change the plan.")
        return text
    if secret.kind == "credential":
        root = os.environ.get(_ENVIRONMENT, "")
        if not root or not _NAME.match(secret.name):
            raise UsageError(
                f"{title_of(secret)} is not there: systemd has handed over none.",
                hint=f"Add LoadCredential={secret.name}:FILE to the service.",
            )
        return _read(Path(root) / secret.name, title_of(secret))
    return _read(folder / Path(secret.name).expanduser(), title_of(secret))


def _read(path: Path, title: str) -> str:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(handle, "rb") as file:
            info = os.fstat(file.fileno())
            data = file.read(SECRET_MAX + 1)
    except OSError as error:
        raise UsageError(
            f"{title} cannot be read: {error.strerror}.", hint="Check its name and permissions."
        ) from None
    if info.st_mode & (stat.S_IRWXG | stat.S_IRWXO) or info.st_uid not in {0, os.geteuid()}:
        raise DeniedError(
            f"{title} is not this user's alone, and it is to hold a secret.",
            hint="Nothing was sent. chmod 600 it, and give it to this user.",
        )
    if len(data) > SECRET_MAX or not stat.S_ISREG(info.st_mode):
        raise UsageError(f"{title} is no file of at most {SECRET_MAX:,} bytes.")
    return data.decode(errors="replace")


def _is_url(text: str) -> bool:
    return "://" in text and text.isprintable() and " " not in text
