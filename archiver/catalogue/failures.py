"""What SQLite's errors mean here: wait and try again, rebuild, or tell the user."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from sqlalchemy.exc import StatementError

from archiver.catalogue.errors import (
    CatalogueFullError,
    CatalogueReadOnlyError,
    CatalogueUnusable,
)
from archiver.errors import ArchiverError, DamageError

if TYPE_CHECKING:
    from pathlib import Path

_PRIMARY = 0xFF
_PASSING = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}
_BAD_ROWS = {sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISMATCH}

Failure = sqlite3.Error | StatementError | OverflowError | UnicodeEncodeError
FAILURES = (sqlite3.Error, StatementError, OverflowError, UnicodeEncodeError)
"""What a transaction can fail with. The last two are values that SQLite cannot hold."""


def is_passing(error: Failure) -> bool:
    """Whether the error comes from another process being busy, or having replaced the file."""
    code = _code(error)
    return code == sqlite3.SQLITE_READONLY_DBMOVED or code & _PRIMARY in _PASSING


def reported(error: Failure, path: Path) -> ArchiverError:
    """The error that tells the user, or the calling operation, what to do."""
    code = _code(error) & _PRIMARY
    cause = _cause(error)
    if code in _BAD_ROWS or isinstance(cause, ValueError | OverflowError):
        return DamageError(f"A record cannot be put into the catalogue {path}: {cause}.")
    if code == sqlite3.SQLITE_FULL:
        return CatalogueFullError(
            f"The disk has no room for the catalogue {path}.",
            hint="Free some room and run the same command again; it goes on from there.",
        )
    if code == sqlite3.SQLITE_READONLY:
        return CatalogueReadOnlyError(path)
    return CatalogueUnusable(path, str(cause))


def _code(error: Failure) -> int:
    """SQLite's extended error code, 0 if the error is not SQLite's."""
    code = getattr(_cause(error), "sqlite_errorcode", 0)
    return int(code)


def _cause(error: Failure) -> BaseException | None:
    return error.orig if isinstance(error, StatementError) else error
