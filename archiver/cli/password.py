"""The password of a secret key: from the environment, or asked for."""

from __future__ import annotations

import os
import sys
from typing import Final

import click

from archiver.errors import UsageError

VARIABLE: Final = "ARCHIVER_KEY_PASSWORD"


def password(what: str, *, twice: bool = False) -> str:
    """The password of ``what``; UsageError if it is not given and nobody can be asked."""
    given = os.environ.get(VARIABLE)
    if given:
        return given
    if not sys.stdin.isatty():
        raise UsageError(
            f"{what} needs a password, and there is no terminal to ask at.",
            hint=f"Set {VARIABLE}.",
        )
    asked: str = click.prompt(
        f"Password of {what}", hide_input=True, confirmation_prompt=twice, err=True
    )
    return asked
