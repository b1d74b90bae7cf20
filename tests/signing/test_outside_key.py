"""A key that the auditor kept counts more than the policy that lies in the archive."""

from __future__ import annotations

import pytest
from kit.cli import invoke
from kit.faults import overwrite


@pytest.fixture
def evil(run, weights, key, sign, tmp_path):
    """Somebody makes the archive trust a key of their own, and signs everything anew."""
    mine = key.with_suffix(".pub")
    assert sign().code == 0
    here = ("-C", weights.root)
    done = run("policy", "set", *here, "--trust", mine, "--require-signatures")
    assert done.code == 0
    assert run("keys", "new", tmp_path / "evil", "--no-password").code == 0
    id_ = run("keys", "show", mine).kinds("key")[0]["id"]
    more = ("--trust", tmp_path / "evil.pub", "--distrust", id_)
    assert run("policy", "set", *here, *more).code == 0
    for path in weights.signatures:
        path.unlink()
    assert run("sign", *here, "--key", tmp_path / "evil.key").code == 0
    return tmp_path / "evil.key"


@pytest.fixture
def audit(run, weights):
    def call(*args):
        return run("audit", "-C", weights.root, "--level", "stored", *args)

    return call


@pytest.fixture
def status(run, weights):
    def call(*args):
        return run("status", "-C", weights.root, *args)

    return call


def test_who_can_write_can_change_what_is_trusted_but_not_a_kept_key(audit, status, key, evil):
    assert (audit().code, status().code) == (0, 0)
    mine = key.with_suffix(".pub")
    result = audit("--key", mine)
    assert (result.code, result.finding_codes) == (20, {"signature-missing"})
    assert len(result.kinds("finding")) == 4
    assert {"Org/one", "Org/two"} == {
        finding["snapshot"].partition("@")[0] for finding in result.kinds("finding")
    }
    short = status("--key", mine)
    assert (short.code, short.kinds("status")[0]["unsigned"]) == (24, 4)
    assert [shortfall["what"] for shortfall in short.kinds("shortfall")] == ["signatures"]
    both = ("--key", mine, "--key", evil.with_suffix(".pub"))
    assert (audit(*both).code, status(*both).code) == (0, 0)


def test_what_the_kept_key_signed_is_well_whatever_the_policy_says(audit, status, sign, key):
    assert sign().code == 0
    text = key.with_suffix(".pub").read_text().splitlines()[1]
    for each in (key.with_suffix(".pub"), text):
        assert audit("--key", each).code == 0
        assert status("--key", each).code == 0
    assert status("--key", text).kinds("status")[0]["trusted"] == [text]
    assert status().kinds("status")[0]["trusted"] == []


def test_a_forged_signature_of_the_kept_key_is_told_once(audit, status, sign, key, weights):
    assert sign().code == 0
    one, two = (weights.signature_of(seal) for seal in weights.seals)
    overwrite(one, two.read_bytes())
    assert audit().code == 0
    result = audit("--key", key.with_suffix(".pub"))
    assert (result.code, result.finding_codes) == (20, {"signature-damaged"})
    assert len(result.kinds("finding")) == 1
    assert status("--key", key.with_suffix(".pub")).kinds("status")[0]["unsigned"] == 1


def test_one_snapshot_can_be_asked_for(run, audit, sign, key):
    assert sign("Org/one").code == 0
    mine = ("--key", key.with_suffix(".pub"))
    assert audit("--snapshot", "Org/one", *mine).code == 0
    result = audit("--snapshot", "Org/two", *mine)
    assert (result.code, result.finding_codes, len(result.kinds("finding"))) == (
        20,
        {"signature-missing"},
        2,
    )


def test_a_policy_that_wants_signatures_wants_them_of_an_audit_too(
    run, audit, status, key, sign, weights
):
    public = key.with_suffix(".pub")
    assert run("policy", "set", "-C", weights.root, "--trust", public).code == 0
    assert audit().code == 0
    assert run("policy", "set", "-C", weights.root, "--require-signatures").code == 0
    result = audit()
    assert (result.code, result.finding_codes) == (20, {"signature-missing"})
    # It is no damage that a repair could mend,
    assert run("repair", "-C", weights.root, "--no-upstream").code == 0
    # and is forgotten as soon as it is signed.
    assert audit().code == 20
    assert sign().code == 0
    assert status().code == 0
    assert audit().code == 0


@pytest.mark.parametrize("command", ["audit", "status"])
def test_a_key_that_is_none_is_refused(run, weights, command):
    assert run(command, "-C", weights.root, "--key", "RWnonsense").code == 2


def test_text_does_not_call_it_damage(weights, key, capfd):
    mine = str(key.with_suffix(".pub"))
    assert invoke("audit", "-q", "-C", weights.root, "--key", mine) == 20
    assert capfd.readouterr().out.startswith("NOT ALL SIGNED: 4 findings, 2 of 2 snapshots hit.")
