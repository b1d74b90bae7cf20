"""Bytes without upstream's digest never stand in for bytes with it: a hub's cache that keeps no digests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from e2ekit import REPO, WEIGHTS, model, seals

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MISMATCH = 22


def changed(data: bytes) -> bytes:
    """Three bytes of a shard are others."""
    return data[:9000] + bytes(one ^ 0x55 for one in data[9000:9003]) + data[9003:]


@pytest.fixture
def commit(hub) -> str:
    """The hub holds org/model at this commit."""
    return hub.create(REPO, model())


@pytest.fixture
def served(commit) -> dict[str, bytes]:
    """The files of the commit."""
    assert commit
    return model()


@pytest.fixture
def cache(tmp_path, served, commit) -> Callable[..., Path]:
    """A cache of the commit with regular files in snapshots/ and no trees/, as without symlinks."""
    count = 0

    def make(**others: bytes) -> Path:
        nonlocal count
        count += 1
        entry = tmp_path / f"cache{count}" / "models--org--model"
        folder = entry / "snapshots" / commit
        for path, data in {**served, **others}.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
        (entry / "refs").mkdir()
        (entry / "refs" / "main").write_text(commit)
        return entry

    return make


def rows(result, kind):
    return [row for row in result.rows if row["kind"] == kind]


def test_a_changed_cache_is_refused_beside_a_mirrored_snapshot(
    cli, archive, mirror, cache, served, restores
):
    """Recipe: mirror; a cache of the same commit, three bytes of a shard changed; import."""
    assert mirror().code == 0
    before = seals(archive)
    bad = cache(**{WEIGHTS: changed(served[WEIGHTS])})
    refused = cli("import", "-C", archive, bad)
    assert refused.code == MISMATCH, refused.out + refused.err
    assert WEIGHTS in refused.err
    assert "--as" in refused.err
    assert seals(archive) == before
    restores(archive, served)
    assert "held already" in mirror().out
    assert cli("audit", "-C", archive).code == 0


def test_a_mirror_heals_an_archive_that_took_a_changed_cache_in_first(
    cli, archive, mirror, cache, served, restores, tmp_path, commit, hub
):
    bad = cache(**{WEIGHTS: changed(served[WEIGHTS])})
    taken = cli("import", "-C", archive, bad, "--json")
    assert taken.code == 0
    (report,) = rows(taken, "mirror")
    assert (report["vouched"]["nobody"], report["vouched"]["least"]) == (len(served), "nobody")
    unvouched = report["snapshot"]
    out = tmp_path / "unvouched"
    told = cli("restore", "-C", archive, REPO, out)
    assert told.code == 0
    assert "every byte checked" not in told.out
    assert "nobody" in told.out
    hub.requests.clear()
    healed = mirror("--json")
    assert healed.code == 0
    # All but the shard was compared where it lay.
    assert {one.file for one in hub.requests.bodies()} == {WEIGHTS}
    (report,) = rows(healed, "mirror")
    assert report["outcome"] == "sealed"
    assert report["vouched"]["upstream"] == len(served)
    restores(archive, served)
    restores(archive, served, f"{REPO}@{commit[:12]}")
    listed = rows(cli("list", "-C", archive, "--json"), "snapshot")
    assert [(one["snapshot"] == unvouched, one["default"]) for one in listed] == [
        (True, False),
        (False, True),
    ]
    assert "held already" in mirror().out
    audit = cli("audit", "-C", archive, "--json")
    assert audit.code == 20
    (finding,) = rows(audit, "finding")
    assert finding["code"] == "seals-contradict"
    assert finding["path"] == WEIGHTS
    assert unvouched[:12] in finding["hint"]
    assert "forget" in finding["hint"]
    assert cli("forget", "-C", archive, f"{REPO}@{unvouched[:16]}").code == 0
    assert cli("audit", "-C", archive).code == 0
    restores(archive, served)
