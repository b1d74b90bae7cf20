"""``verify --require-signature`` and the signatures that ``manifest export`` writes."""

from __future__ import annotations

import shutil

import pytest
from kit.faults import overwrite
from kit.journal import raw_event
from signingkit import minisign

from archiver.archive.archive import Archive
from archiver.archive.signing.keys import public_key


@pytest.fixture
def exported(run, weights, sign, tmp_path):
    """A signed archive's manifest, exported."""
    assert sign().code == 0
    target = tmp_path / "one.json"
    done = run("manifest", "export", "-C", weights.root, "Org/one", "-o", target)
    assert done.kinds("manifest")[0]["signatures"] == [f"{target}.minisig"]
    return target


@pytest.fixture
def folder(pristine, tmp_path):
    return shutil.copytree(pristine / "one", tmp_path / "one")


@pytest.fixture
def verify(run, folder, exported):
    def call(*args, manifest=exported):
        return run("verify", folder, "--manifest", manifest, "--require-signature", *args)

    return call


def test_the_stock_program_verifies_what_was_exported(exported, key):
    args = ["-V", "-p", key.with_suffix(".pub"), "-m", exported, "-x", f"{exported}.minisig"]
    result = minisign(*args)
    assert result.returncode == 0
    assert "manifest of Org/one@" in result.stdout


def test_a_signed_manifest_is_believed(verify, key, run):
    for named in (key.with_suffix(".pub"), public_key(str(key.with_suffix(".pub"))).text):
        done = verify("--key", named)
        assert done.code == 0
        assert done.kinds("verify")[0]["signer"] == public_key(str(key.with_suffix(".pub"))).id


def test_an_unsigned_or_changed_manifest_is_refused(verify, exported, key, tmp_path):
    public = key.with_suffix(".pub")
    whole = exported.read_bytes()
    exported.write_bytes(whole.replace(b'"size":9000', b'"size":9001'))
    assert exported.read_bytes() != whole
    done = verify("--key", public)
    assert (done.code, done.finding_codes) == (20, {"signature-damaged"})
    assert done.kinds("verify")[0]["read_files"] == 0
    exported.write_bytes(whole)
    assert verify("--key", public).code == 0
    moved = tmp_path / "elsewhere"
    (tmp_path / "one.json.minisig").rename(moved)
    done = verify("--key", public)
    assert (done.code, done.finding_codes) == (20, {"signature-damaged"})
    assert "is not there" in done.kinds("finding")[0]["message"]
    assert verify("--key", public, "--signature", moved).code == 0


def test_another_key_is_not_trusted(verify, run, key, tmp_path):
    assert run("keys", "new", tmp_path / "other", "--no-password").code == 0
    done = verify("--key", tmp_path / "other.pub")
    assert (done.code, done.finding_codes) == (20, {"signature-damaged"})
    assert verify("--key", tmp_path / "other.pub", "--key", key.with_suffix(".pub")).code == 0
    assert verify("--key", "RWnonsense").code == 2


def test_the_policy_names_the_keys(verify, weights, key):
    done = verify("-C", weights.root)
    assert done.code == 2
    assert "--key" in done.err
    detail = {"keys": [public_key(str(key.with_suffix(".pub"))).text]}
    Archive.open(weights.root).record(
        raw_event("policy", "2026-12-01T00:00:00Z", "test", detail=detail)
    )
    assert verify("-C", weights.root).code == 0


def test_a_manifest_in_any_form(verify, weights, key, exported, run, tmp_path):
    public, signature = key.with_suffix(".pub"), f"{exported}.minisig"
    stored = next(path for path in weights.manifests if path.parent.name == "one")
    pretty = tmp_path / "pretty.json"
    done = run("manifest", "export", "-C", weights.root, "Org/one", "--pretty", "-o", pretty)
    assert done.kinds("manifest")[0]["signatures"] == []
    for manifest in (stored, pretty):
        done = verify("--key", public, "--signature", signature, manifest=manifest)
        assert done.code == 0, done.out


def test_the_signature_may_lie_in_the_folder(run, exported, key, folder):
    for name in (exported.name, f"{exported.name}.minisig"):
        shutil.copy(exported.with_name(name), folder / name)
    inside = folder / exported.name
    public = key.with_suffix(".pub")
    assert run("verify", folder, "--manifest", inside, "--key", public).code == 0


def test_two_signatures_are_exported(run, weights, sign, key, tmp_path, folder):
    assert run("keys", "new", tmp_path / "second", "--no-password").code == 0
    second = tmp_path / "second.key"
    assert sign().code == 0
    assert run("sign", "-C", weights.root, "--key", second).code == 0
    detail = {"keys": [public_key(str(second.with_suffix(".pub"))).text]}
    Archive.open(weights.root).record(
        raw_event("policy", "2026-12-01T00:00:00Z", "test", detail=detail)
    )
    target = tmp_path / "m.json"
    assert run("manifest", "export", "-C", weights.root, "Org/one", "-o", target).code == 0
    first = public_key(str(key.with_suffix(".pub")))
    assert (tmp_path / f"m.json.{first.id}.minisig").exists()
    assert minisign("-V", "-p", second.with_suffix(".pub"), "-m", target).returncode == 0
    for each in (key, second):
        assert (
            run("verify", folder, "--manifest", target, "--key", each.with_suffix(".pub")).code == 0
        )


def test_an_export_overwrites_no_signature(run, weights, sign, tmp_path):
    assert sign().code == 0
    (tmp_path / "m.json.minisig").write_text("mine")
    target = tmp_path / "m.json"
    assert run("manifest", "export", "-C", weights.root, "Org/one", "-o", target).code == 2
    assert not target.exists()


def test_a_damaged_signature_is_not_exported(run, weights, sign, tmp_path):
    assert sign().code == 0
    for path in weights.signatures:
        overwrite(path, b"nothing")
    done = run("manifest", "export", "-C", weights.root, "Org/one", "-o", tmp_path / "m.json")
    assert done.kinds("manifest")[0]["signatures"] == []
