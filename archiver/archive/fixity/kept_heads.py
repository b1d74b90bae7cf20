"""Heads that were kept elsewhere, as they are typed: ids of events, or files that ``head`` wrote.

A head vouches for the journal of one archive at one place. A line that ``head`` wrote says which; an id
alone, as older versions wrote it, is taken to be of the archive that it is checked against.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from archiver.archive.events import Copied
from archiver.archive.place import own_place
from archiver.digest import is_blake3
from archiver.errors import UsageError, explain_system_error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.archive.archive import Archive

_KEPT_MAX: Final = 1 << 20
_FIRST_WORD: Final = re.compile(r"\s*(\S+)")
_COVERS: Final = re.compile(r"\b(archive|place|scope)=(\S+)")

Scope = Literal["archive", "snapshots"]
"""Of what a journal tells: of all of an archive, or of snapshots that were chosen when it was copied."""


class Cover(msgspec.Struct, frozen=True):
    """What a head vouches for: the journal of the archive with this id, at the place with this identity.

    A place without an identity has its name. Everything is ``""`` where nobody wrote it down.
    """

    archive: str = ""
    place: str = ""
    scope: str = ""


def is_covered(archive: Archive, covers: Cover) -> bool:
    """Return whether a head that covers this is one of this archive's journal at this place."""
    here, place = cover_of(archive), own_place(archive)
    return (
        covers.archive in {"", here.archive}
        and (not covers.place or place.is_meant(covers.place))
        and covers.scope in {"", here.scope}
    )


class KeptHead(msgspec.Struct, frozen=True):
    """The id of an event, and what it covers."""

    id: str
    covers: Cover = Cover()


def cover_of(archive: Archive) -> Cover:
    """Return what the heads of an archive's journal vouch for."""
    place = own_place(archive)
    scope: Scope = "archive"
    for _, event in archive.events(lambda _name, _error: None):
        copied = event.detail
        if not isinstance(copied, Copied) or not place.is_meant(copied.to_id or copied.to):
            continue
        if copied.part:
            scope = "snapshots"
        elif not isinstance(copied.packs, msgspec.UnsetType):
            scope = "archive"
    return Cover(archive.info.archive, place.told, scope)


def kept_heads(text: str) -> Iterator[KeptHead]:
    """Return the head that ``text`` is, or those that the file of that name lists; UsageError if none."""
    if is_blake3(text):
        yield KeptHead(text)
        return
    found = [one for one in map(_head_in, _lines(Path(text))) if is_blake3(one.id)]
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


class _Line(msgspec.Struct):
    """A line of JSON."""

    id: str
    archive: str = ""
    place: str = ""
    scope: str = ""


def _head_in(line: str) -> KeptHead:
    """The head in a line that ``head`` printed, as text or as JSON; its id is ``""`` if it is none."""
    if not line.startswith("{"):
        word = _FIRST_WORD.match(line)
        return KeptHead(word.group(1) if word else "", Cover(**dict(_COVERS.findall(line))))
    try:
        found = msgspec.json.decode(line, type=_Line)
    except (msgspec.DecodeError, RecursionError):
        return KeptHead("")
    return KeptHead(found.id, Cover(found.archive, found.place, found.scope))
