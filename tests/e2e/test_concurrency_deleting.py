"""Commands of every kind at once on one archive, deleting ones among them."""

from __future__ import annotations

import os
import sqlite3

import pytest
from kit.archive import seals
from kit.repository import model

pytestmark = pytest.mark.usefixtures("by_catalogue")


def ended(child) -> tuple[int, str]:
    result = child.wait()
    for trace in ("Traceback", "sqlite", "did not expect"):
        assert trace not in result.err + result.out, result.err
    return result.code, result.err


@pytest.fixture
def models(hub) -> dict[str, dict[str, bytes]]:
    found = {f"org/model{n}": model(seed=n) for n in range(4)}
    for name, files in found.items():
        hub.create(name, files)
    return found


def test_everything_at_once(hub, models, zygote, archive, restores, cli, tmp_path):
    """What is mirrored while others are forgotten and condemned is there afterwards, whole."""
    old, *new = models
    assert cli("mirror", "-C", archive, old).code == 0
    hub.create("org/unwanted", {"a.bin": bytes(range(256)) * 50})
    assert cli("mirror", "-C", archive, "org/unwanted").code == 0
    hub.rate = 400_000
    adding = [zygote.start("mirror", "-C", archive, name) for name in new]
    beside = [
        zygote.start("forget", "-C", archive, "org/unwanted"),
        zygote.start("audit", "-C", archive),
        zygote.start("restore", "-C", archive, old, tmp_path / "out"),
        zygote.start("stats", "-C", archive),
    ]
    deleting = [zygote.start("prune", "-C", archive) for _ in range(3)]
    assert [ended(one)[0] for one in adding] == [0, 0, 0]
    assert [ended(one)[0] for one in beside] in ([0, 0, 0, 0], [11, 0, 0, 0])
    # One at a time; a writer's announcement, half written, or its seal may stop it.
    assert {ended(one)[0] for one in deleting} <= {0, 11, 20}
    hub.rate = None
    for name, files in models.items():
        restores(archive, files, name)
    assert cli("audit", "-C", archive).code == 0


def test_prune_without_a_grace_beside_writers(hub, models, zygote, archive, restores, cli):
    """A writer may be refused, and says so; what is sealed is whole; the next run brings the rest."""
    adding = [zygote.start("mirror", "-C", archive, name) for name in models]
    for _ in range(6):
        code, error = ended(zygote.start("prune", "-C", archive, "--grace", "0d"))
        assert code in {0, 20}, error
    for one in adding:
        code, error = ended(one)
        assert code in {0, 20}, error
        assert code == 0 or "vanished" in error or "missing" in error or "in no pack" in error
    assert cli("prune", "-C", archive).code == 0
    assert cli("audit", "-C", archive).code == 0
    for name, files in models.items():
        assert cli("mirror", "-C", archive, name).code == 0
        restores(archive, files, name)
    assert len(seals(archive)) >= len(models)


def test_a_write_lock_on_the_catalogue_is_waited_for(models, zygote, archive, restores):
    first, second, *_ = models
    assert ended(zygote.start("mirror", "-C", archive, first))[0] == 0
    # So that the next run has nothing to add before its first pack.
    assert ended(zygote.start("stats", "-C", archive))[0] == 0
    holder = sqlite3.connect(archive / "catalogue.sqlite", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    waiting = zygote.start("mirror", "-C", archive, second)
    pruning = zygote.start("prune", "-C", archive)
    while len(list((archive / "packs").rglob("*.pack"))) < 2:
        os.sched_yield()
    holder.execute("ROLLBACK")
    holder.close()
    assert ended(waiting)[0] == 0
    assert ended(pruning)[0] == 0
    restores(archive, models[second], second)
