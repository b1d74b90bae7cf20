"""Sidecars and signatures in an audit of the whole archive."""

from __future__ import annotations

import pytest
from kit.faults import flip, overwrite


@pytest.fixture
def protected(run, weights, tmp_path):
    """The archive with parity of everything and a signature by a trusted key of everything."""
    assert run("keys", "new", tmp_path / "key", "--no-password").code == 0
    trust = ("--trust", tmp_path / "key.pub")
    assert run("policy", "set", "-C", weights.root, "--parity", "2", *trust).code == 0
    assert run("sign", "-C", weights.root, "--key", tmp_path / "key.key").code == 0
    assert run("parity", "add", "-C", weights.root).code == 0
    return weights


def stored(weights, folder):
    return sorted(path for path in (weights.root / folder).rglob("*") if path.is_file())


@pytest.mark.parametrize("level", ["structure", "stored", "content"])
def test_what_stands_beside_is_sound(audit, protected, level):
    result = audit("--level", level)
    assert (result.code, result.codes, result.remarks) == (0, set(), set())


def test_parity_blocks_are_read_from_stored_on_unless_there_are_limits(audit, protected):
    sidecar = max(stored(protected, "parity"), key=lambda path: path.stat().st_size)
    flip(sidecar)
    assert audit("--level", "structure").code == 0
    assert audit("--level", "stored", "--max-age", "1d").code == 0
    for level in ("stored", "content"):
        result = audit("--level", level)
        assert (result.code, result.codes) == (20, {"parity-damaged"})
        assert "archiver parity add" in result.damage[0]["hint"]


def test_a_sidecar_without_a_header_is_found_at_once(audit, protected):
    overwrite(stored(protected, "parity")[0], b"nothing")
    assert audit("--level", "structure").codes == {"parity-damaged"}


def test_a_signature_by_a_trusted_key_must_be_right(audit, protected):
    one, two = stored(protected, "signatures")[:2]
    overwrite(one, two.read_bytes())
    result = audit("--level", "structure")
    assert (result.code, result.codes) == (20, {"signature-damaged"})


def test_what_is_beside_nothing_is_a_remark(audit, protected):
    for path in stored(protected, "snapshots"):
        digest = path.name.split(".")[1]
        for near in (protected.root / "signatures").rglob(f"{digest}.*"):
            far = near.parents[1] / "00" / ("00" + near.name[2:])
            far.parent.mkdir(exist_ok=True)
            near.rename(far)
    result = audit()
    assert (result.code, result.remarks) == (0, {"unneeded-signature"})
