"""Licences as a card names them, and as SPDX does."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from archiver.export.text import address, plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_LISTED: Final = """
    AFL-3.0 AGPL-3.0 AGPL-3.0-only AGPL-3.0-or-later Apache-2.0 Artistic-2.0 BSD-2-Clause BSD-3-Clause
    BSD-3-Clause-Clear BSL-1.0 C-UDA-1.0 CC-BY-2.0 CC-BY-2.5 CC-BY-3.0 CC-BY-4.0 CC-BY-NC-2.0 CC-BY-NC-3.0
    CC-BY-NC-4.0 CC-BY-NC-ND-3.0 CC-BY-NC-ND-4.0 CC-BY-NC-SA-2.0 CC-BY-NC-SA-3.0 CC-BY-NC-SA-4.0
    CC-BY-ND-4.0 CC-BY-SA-3.0 CC-BY-SA-4.0 CC0-1.0 CDLA-Permissive-1.0 CDLA-Permissive-2.0
    CDLA-Sharing-1.0 ECL-2.0 EPL-1.0 EPL-2.0 etalab-2.0 EUPL-1.1 EUPL-1.2 GPL-2.0 GPL-2.0-only
    GPL-2.0-or-later GPL-3.0 GPL-3.0-only GPL-3.0-or-later ISC LGPL-2.1 LGPL-2.1-only LGPL-2.1-or-later
    LGPL-3.0 LGPL-3.0-only LGPL-3.0-or-later LGPLLR LPPL-1.3c MIT MPL-2.0 MS-PL NCSA ODbL-1.0 OFL-1.1
    ODC-By-1.0 OSL-3.0 PDDL-1.0 PostgreSQL Unlicense WTFPL Zlib
"""
"""Of the licences that hubs offer those that SPDX knows, as it spells them."""
_SPDX: Final = {name.lower(): name for name in _LISTED.split()} | {
    "odbl": "ODbL-1.0",
    "odc-by": "ODC-By-1.0",
    "pddl": "PDDL-1.0",
    "lgpl-lr": "LGPLLR",
    "c-uda": "C-UDA-1.0",
}
"""The same by the words of hubs."""
_UNKNOWN: Final = frozenset({"other", "unknown"})
_NOT_IN_REFERENCES: Final = re.compile(r"[^A-Za-z0-9.]+")
_MOST: Final = 8


class Licence(NamedTuple):
    """One licence.

    ``spdx`` is its identifier or ``""``, ``name`` what upstream calls it, ``url`` where its text is.
    """

    spdx: str
    name: str
    url: str = ""

    @property
    def expression(self) -> str:
        """It as an SPDX expression, in which what SPDX does not list has a name of its own."""
        return (
            self.spdx
            or f"LicenseRef-{_NOT_IN_REFERENCES.sub('-', self.name).strip('-') or 'other'}"
        )


def licences_of(card: Mapping[str, Any], hub_word: str) -> tuple[Licence, ...]:
    """Return the licences that a card declares, or else the one that the hub named."""
    return tuple(dict.fromkeys(_licences(card, hub_word)))[:_MOST]


def _licences(card: Mapping[str, Any], hub_word: str) -> Iterator[Licence]:
    named, link = plain(card.get("license_name")), address(card.get("license_link"))
    value = card.get("license") or hub_word
    for each in value if isinstance(value, list) else [value]:
        word = plain(each)
        if word.lower() in _UNKNOWN:
            word = named
        if word:
            spdx = _SPDX.get(word.lower(), "")
            yield Licence(spdx, word, "" if spdx else link)
