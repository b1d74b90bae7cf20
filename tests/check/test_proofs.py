"""Proofs: seconds ahead of the clock count as now; what no event holds goes into several."""

from __future__ import annotations

import pytest
from kit.journal import raw_event

from archiver.archive.check.proofs import Proofs, audited_parts, proofs_of
from archiver.archive.events import Audited
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


@pytest.mark.parametrize(("packs", "files"), [(0, 0), (3, 2), (10_000, 1_000), (25_000, 2_500)])
def test_an_audit_of_more_than_an_event_holds_calls_nothing_whole_that_is_damaged(packs, files):
    listed, snapshots = (tuple(f"{n:064x}" for n in range(packs + add)) for add in (0, 1))
    damaged = tuple(f"manifests/org/m/{n}" for n in range(files))
    whole = Audited(
        "content", objects=7, checked=("documents",), damaged_files=damaged, packs=listed,
        snapshots=snapshots,
    )  # fmt: skip
    parts = list(audited_parts(whole))
    assert all(len(part.packs) + len(part.snapshots) <= 10_000 for part in parts)
    assert all(len(part.damaged_files) <= 1_000 for part in parts)
    assert sum((part.packs for part in parts), ()) == listed
    assert sum((part.snapshots for part in parts), ()) == snapshots
    assert sum(part.objects for part in parts) == 7
    proofs = Proofs()
    for part in parts:
        proofs.add(part, NOW, NOW)
    assert proofs.broken == set(damaged)
    assert all(proofs.pack(pack, "content") == NOW for pack in listed)
