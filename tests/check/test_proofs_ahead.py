"""Proofs whose events run ahead of the clock: by seconds they count as of now, by years not at all."""

from __future__ import annotations

import pytest
from kit.journal import raw_event

from archiver.archive.check.proofs import proofs_of
from archiver.archive.places import Place

PACK = "a" * 64
NOW = "2026-06-01T12:00:00Z"
PLACE = Place("/archive", "")


@pytest.mark.parametrize(
    ("time", "proven"),
    [
        ("2026-06-01T11:59:00Z", "2026-06-01T11:59:00Z"),
        ("2026-06-01T12:00:03Z", NOW),  # it had to count as later than others of its second
        ("2026-06-03T12:00:00Z", ""),
        ("2040-01-01T00:00:00Z", ""),
    ],
)
def test_what_is_proven_a_little_ahead_of_the_clock_is_proven_now(time, proven):
    detail = {"level": "content", "packs": [PACK], "checked": [], "snapshots": []}
    event = raw_event("audited", time, detail=detail)
    proofs = proofs_of([("c" * 64, event)], NOW, PLACE)
    assert proofs.pack(PACK, "stored") == proven
    assert proofs.pack(PACK, "files") == ""
