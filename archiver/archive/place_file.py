"""``place.json``: which place this is, whatever it is called (``docs/format.md``, section 2.1)."""

from __future__ import annotations

import re
import uuid
from typing import TYPE_CHECKING, Final

from archiver.archive.layout import PLACE
from archiver.archive.records import PlaceInfo, canonical, parse_record
from archiver.errors import DamageError

if TYPE_CHECKING:
    from archiver.storage.store import Store

_SMALL_MAX: Final = 1 << 16
_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def place_file(place: str = "") -> bytes:
    """What ``place.json`` should hold: this identity, or a new one."""
    return canonical(PlaceInfo(place or str(uuid.uuid4()))) + b"\n"


def parse_place(data: bytes) -> str:
    """The identity in a ``place.json``; DamageError if it is not as one was written."""
    info = parse_record(data, PlaceInfo, PLACE)
    if not is_identity(info.place) or data != canonical(info) + b"\n":
        raise DamageError(
            f"{PLACE} is damaged: it says something else than was written.", path=PLACE
        )
    return info.place


def is_identity(text: str) -> bool:
    """Whether it has the form of a place's identity."""
    return _UUID.fullmatch(text) is not None


def read_place(store: Store) -> str:
    """The identity of the place of a store; ``""`` if it has none yet, DamageError if it is damaged."""
    try:
        return parse_place(store.get(PLACE, _SMALL_MAX))
    except FileNotFoundError:
        return ""
