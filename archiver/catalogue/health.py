"""Whether a catalogue file is damaged, asked without SQLAlchemy and without writing."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, nullcontext
from typing import TYPE_CHECKING, Final

from archiver.catalogue.errors import CatalogueNewerError, CatalogueUnusable
from archiver.catalogue.files import connect, may_write, swap_lock
from archiver.catalogue.version import schema_number

if TYPE_CHECKING:
    from pathlib import Path

_PRIMARY: Final = 0xFF
_DAMAGE: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def fault_of(path: Path, *, untouched: bool = False) -> str:
    """What SQLite says is wrong with the file; ``""`` if nothing, or if it cannot be asked.

    With ``untouched`` not even a lock or a log comes to lie beside it: what other processes have not
    yet written into it is not seen.
    """
    if not os.path.lexists(path):
        return ""
    # A connection that may write takes its log away with it when it is closed.
    mode = "rw" if may_write(path) and not untouched else "immutable"
    lock = nullcontext() if untouched else swap_lock(path)
    try:
        with lock, closing(connect(path, mode)) as connection:
            schema_number(connection, path)  # no view, trigger or computed column may run
            (answer,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except CatalogueNewerError:
        return ""
    except CatalogueUnusable as error:
        return error.reason
    except sqlite3.Error as error:
        damaged = getattr(error, "sqlite_errorcode", 0) & _PRIMARY in _DAMAGE
        return str(error) if damaged else ""
    return "" if answer == "ok" else " ".join(str(answer).split())
