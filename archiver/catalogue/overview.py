"""What the catalogue alone knows of snapshots, for a list of what is held: licence, title, dtypes.

Without SQLAlchemy, which takes longer to load than the answer takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    import sqlite3

DTYPES_MAX: Final = 16
"""Dtypes of a snapshot that are told apart: of more, those with the most bytes."""
_TEXTS: Final = """
    SELECT lower(hex(s.digest)), CAST(coalesce(nullif(m.licence, ''), c.licence, '') AS TEXT),
        CAST(coalesce(c.title, '') AS TEXT)
    FROM snapshots s
    JOIN manifests m ON m.id = s.manifest_id
    LEFT JOIN cards c ON c.manifest_id = m.id
"""
_DTYPES: Final = """
    SELECT lower(hex(s.digest)), CAST(g.dtype AS TEXT), CAST(g.bytes AS INTEGER)
    FROM (
        SELECT t.manifest_id AS manifest_id, g.dtype AS dtype, sum(g.bytes) AS bytes
        FROM files t JOIN tensor_groups g ON g.layout_id = t.layout_id
        GROUP BY t.manifest_id, g.dtype
    ) g
    JOIN snapshots s ON s.manifest_id = g.manifest_id
    WHERE g.dtype != ''
    ORDER BY g.bytes DESC, g.dtype
"""


class SnapshotOverview(msgspec.Struct, frozen=True):
    """Of a snapshot its licence, as upstream says it or else the card, the card's title, its dtypes.

    ``dtypes`` are (dtype, bytes of its tensors), the most bytes first.
    """

    licence: str = ""
    title: str = ""
    dtypes: tuple[tuple[str, int], ...] = ()


def overviews(connection: sqlite3.Connection) -> dict[str, SnapshotOverview]:
    """Return id of a snapshot -> what is known of it; the connection is that of a catalogue."""
    dtypes: dict[str, list[tuple[str, int]]] = {}
    for snapshot, dtype, size in connection.execute(_DTYPES):
        known = dtypes.setdefault(snapshot, [])
        if len(known) < DTYPES_MAX:
            known.append((dtype, size))
    return {
        snapshot: SnapshotOverview(licence, title, tuple(dtypes.get(snapshot, ())))
        for snapshot, licence, title in connection.execute(_TEXTS)
    }
