"""The SHA-256 of packs: taken by an audit in the same pass, journalled once, and compared later."""

from __future__ import annotations

import hashlib

import pytest
from kit.faults import overwrite


@pytest.mark.parametrize(
    "words", [("--level", "files"), ("--rehash",), ("--rehash", "--level", "stored")]
)
def test_an_audit_journals_the_sha256_of_packs_once(run, weights, words):
    assert run("audit", "-q", "-C", weights.root, *words).code == 0
    (event,) = weights.events("rehashed")
    packs = sorted((weights.root / "packs").rglob("*.pack"))
    said = [[path.stem, hashlib.sha256(path.read_bytes()).hexdigest()] for path in packs]
    assert event["detail"]["packs"] == said
    assert event["detail"]["place"]
    assert run("audit", "-q", "-C", weights.root, *words).code == 0
    assert len(weights.events("rehashed")) == 1


def test_others_take_none(run, weights):
    assert run("audit", "-q", "-C", weights.root).code == 0
    assert run("audit", "-q", "-C", weights.root, "--rehash", "--read-only").code == 0
    assert not weights.events("rehashed")


def test_a_contradiction_is_damage(run, weights):
    """Somebody wrote an event: a pack whose BLAKE3 is right has another SHA-256 than it says."""
    pack = min((weights.root / "packs").rglob("*.pack"))
    from archiver.archive.archive import Archive
    from archiver.archive.events import Rehashed, new_event

    Archive.open(weights.root).record(new_event(Rehashed(((pack.stem, "ab" * 32),))))
    assert run("audit", "-q", "-C", weights.root).code == 0
    audit = run("audit", "-q", "--json", "-C", weights.root, "--rehash")
    assert (audit.code, audit.codes) == (20, {"pack-damaged"})
    assert "ab" * 32 in audit.damage[0]["message"]


def test_foreign_signatures_are_kept(run, weights):
    """A suffix names an algorithm that this version does not know: nothing is wrong with it."""
    digest = next(iter((weights.root / "manifests").rglob("*.zst"))).name.split(".")[1]
    path = weights.root / "signatures" / digest[:2] / f"{digest}.0011223344556677.mldsa"
    overwrite(path, b"another kind of signature")
    audit = run("audit", "-q", "--json", "-C", weights.root)
    assert (audit.code, audit.remarks) == (0, {"unknown-file"})
    assert path.exists()
