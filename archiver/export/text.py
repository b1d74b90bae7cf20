"""Text of upstream's in a paper: one short line of what can be printed."""

from __future__ import annotations

import json
import re
from typing import Any, Final

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


def _has_broken_escape(value: str) -> bool:
    return re.search(r"%(?![0-9A-Fa-f]{2})", value) is not None or value.count("#") > 1


def document(fields: dict[str, Any]) -> bytes:
    """Return the JSON of a paper: the same bytes each time, in ASCII, so that no terminal obeys it."""
    return json.dumps(fields, ensure_ascii=True, sort_keys=True, separators=(",", ":")).encode()
