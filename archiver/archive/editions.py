"""Editions of the files that explain an archive: the first writer of something newer renews them.

An archive is read by what lies in it. So who adds what an older text does not describe puts the newer text
beside it first; and who is older itself leaves a newer text alone (``docs/format.md``, section 2).
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Final

from archiver.archive.archive import carried_files
from archiver.archive.quarantine import link_to_quarantine
from archiver.errors import ArchiverError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from archiver.storage.store import Store

EXPLANATION_MAX: Final = 1 << 20
"""Bytes of a file that explains an archive."""
_LINES: Final = {"decode.py": 80}
"""Of how many first lines one says the edition, where it is not of five."""
_EDITION: Final = re.compile(rb"(?:Edition |EDITION = )([0-9]{1,9})\b")

_log = logging.getLogger(__name__)


def edition_of(name: str, data: bytes) -> int:
    """Return the edition that a file which explains an archive says it is; 1 if it says none."""
    for line in data.split(b"\n", _LINES.get(name, 5))[: _LINES.get(name, 5)]:
        match = _EDITION.match(line)
        if match:
            return int(match[1])
    return 1


def newest_explanations(store: Store) -> dict[str, bytes]:
    """Return the files that explain an archive: those in ``store``, or this version's where newer.

    What is missing in ``store``, or cannot be read, is this version's.
    """
    newest = dict(carried_files())
    for name, own in newest.items():
        held = _held(store, name)
        if held and edition_of(name, held) >= edition_of(name, own):
            newest[name] = held
    return newest


def renew_explanations(store: Store, newer: Iterable[tuple[str, bytes]] | None = None) -> None:
    """Replace the files that explain the archive by those of a higher edition; the others stay.

    The old ones go to quarantine. A crash leaves the old or the new one under the name. ``newer`` are
    this version's if they are not given.
    """
    for name, data in carried_files() if newer is None else newer:
        held = _held(store, name)
        if held is None or edition_of(name, held) >= edition_of(name, data):
            continue  # what is missing is an audit's to tell, and a repair's to bring back
        staged = store.stage("put")
        try:
            staged.write(data)
            link_to_quarantine(store, name)
            staged.publish(name)
        finally:
            staged.abort()
        _log.info("renewed %s: edition %d", name, edition_of(name, data))


def _held(store: Store, name: str) -> bytes | None:
    """Return what is there, also if it is empty; None if that is nothing, or cannot be read."""
    try:
        return store.get(name, EXPLANATION_MAX)
    except (ArchiverError, FileNotFoundError):
        return None
