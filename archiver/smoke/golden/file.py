"""A golden record as a file of its own, for folders and for other machines: its canonical JSON."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final

import msgspec

from archiver.archive.records import canonical
from archiver.errors import DamageError, UsageError, explain_system_error
from archiver.smoke.golden.record import RECORD_MAX, Golden, parse_golden
from archiver.storage.files import write_new

if TYPE_CHECKING:
    from pathlib import Path


def read_golden_file(path: Path) -> Golden:
    """The record in a file.

    Raises:
        UsageError: There is no such file, or what it holds is no record; says why.
    """
    try:
        data = _read(path)
        return parse_golden(msgspec.json.decode(data), str(path))
    except OSError as error:
        raise UsageError(explain_system_error(error).message, hint=_HINT) from None
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise UsageError(f"{path} holds no JSON of a golden record.", hint=_HINT) from None
    except DamageError as error:
        raise UsageError(error.message, hint=_HINT) from None


_HINT: Final = "Name a file that 'archiver smoke-test DIR --record --golden FILE' wrote."


def _read(path: Path) -> bytes:
    with open(path, "rb", opener=_at_once) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise UsageError(f"{path} is not a plain file.", hint=_HINT)
        return file.read(RECORD_MAX + (1 << 16))


def _at_once(path: str, flags: int) -> int:
    """Open what may be a pipe, without waiting for somebody who writes to it."""
    return os.open(path, flags | os.O_NONBLOCK)


def write_golden_file(path: Path, golden: Golden) -> None:
    """Write a record to a new file; UsageError if there is something already."""
    write_new(path, canonical(golden))
