"""Heads that were kept elsewhere, as they are typed: ids of events, or files that ``head`` wrote."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from archiver.digest import is_blake3
from archiver.errors import UsageError, explain_system_error

if TYPE_CHECKING:
    from collections.abc import Iterator

_KEPT_MAX: Final = 1 << 20
_FIRST_WORD: Final = re.compile(r"\s*(\S+)")


def kept_ids(text: str) -> Iterator[str]:
    """The ids that ``text`` is or that the file of that name lists; UsageError if there are none."""
    if is_blake3(text):
        yield text
        return
    found = [one for line in _lines(Path(text)) if is_blake3(one := _id_in(line))]
    if not found:
        raise UsageError(
            f"{text[:200]!r} names no head.",
            hint="Give an id of 64 digits, or a file that 'archiver head' wrote.",
        )
    yield from found


def _lines(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            return file.read(_KEPT_MAX).decode(errors="replace").splitlines()
    except (FileNotFoundError, IsADirectoryError, ValueError):
        return []  # whatever it is, it is no file's name
    except OSError as error:
        raise explain_system_error(error, "the kept heads were read") from error


def _id_in(line: str) -> str:
    """The id in a line that ``head`` printed, as text or as JSON."""
    if not line.startswith("{"):
        word = _FIRST_WORD.match(line)
        return word.group(1) if word else ""
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        return ""
    found = document.get("id")
    return found if isinstance(found, str) else ""
