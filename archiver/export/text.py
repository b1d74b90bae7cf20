"""Text of upstream's in a paper: one short line of what can be printed."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from archiver.text import seconds_of, utc_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

TEXT_MAX: Final = 200
"""Characters of a text that upstream wrote."""
_ADDRESS_MAX: Final = 2000
_ADDRESS: Final = re.compile(
    r"https?://[A-Za-z0-9.-]+(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~!$&'()*+,;=:@%/?#-]*)?"
)


def plain(value: Any) -> str:
    """Return a text as one line, without what is not printable; ``""`` for what is no text."""
    if not isinstance(value, str):
        return ""
    line = " ".join(value[: 4 * TEXT_MAX].split())
    return "".join(filter(str.isprintable, line))[:TEXT_MAX].strip()


def plain_texts(value: Any, most: int) -> tuple[str, ...]:
    """Return the texts of a value that is one or a list of some, each once."""
    listed = value[: 4 * most] if isinstance(value, list) else [value]
    return tuple(dict.fromkeys(filter(None, map(plain, listed))))[:most]


def address(value: Any) -> str:
    """Return an address of the web as it is; ``""`` for what is none, or could be misread."""
    if not isinstance(value, str) or len(value) > _ADDRESS_MAX:
        return ""
    return value if _ADDRESS.fullmatch(value) and not _has_broken_escape(value) else ""


def moment(value: str) -> str:
    """Return a time as the format writes it; ``""`` for what is none."""
    seconds = seconds_of(value)
    return "" if seconds is None else utc_text(seconds)


def _has_broken_escape(value: str) -> bool:
    return re.search(r"%(?![0-9A-Fa-f]{2})", value) is not None or value.count("#") > 1


def document(fields: Mapping[str, Any]) -> bytes:
    """Return the JSON of a paper: the same bytes each time, in ASCII, so that no terminal obeys it.

    What is in bytes already, as ``listed`` makes them, is taken as it is.
    """
    return b"{%s}" % b",".join(
        b"%s:%s" % (_json(key), value if isinstance(value, bytes) else _json(value))
        for key, value in sorted(fields.items())
    )


def listed(values: Iterable[Any]) -> bytes:
    """Return the JSON of a list of which there is never more than one value in memory besides its JSON."""
    return b"[%s]" % b",".join(map(_json, values))


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=True, sort_keys=True, separators=(",", ":")).encode()
